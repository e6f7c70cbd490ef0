"""A gRPC provider with mutual TLS: tells each caller whom it sees. Reads its certificate again for each connection.

Prints its port, and serves until its standard input ends.
"""

import argparse
import concurrent.futures
import hashlib
import json
import pathlib
import ssl
import sys

import grpc


def configuration(arguments: argparse.Namespace) -> grpc.ServerCertificateConfiguration:
    pair = (pathlib.Path(arguments.key).read_bytes(), pathlib.Path(arguments.cert).read_bytes())
    return grpc.ssl_server_certificate_configuration([pair], pathlib.Path(arguments.client_ca).read_bytes())


def seen(name: str, context: grpc.ServicerContext) -> bytes:
    auth = context.auth_context()
    pem = auth["x509_pem_cert"][0].decode()
    return json.dumps(
        {
            "provider": name,
            "commonName": auth["x509_common_name"][0].decode(),
            "sha256": hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest(),
        }
    ).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--name", "--cert", "--key", "--client-ca"):
        parser.add_argument(option, required=True)
    arguments = parser.parse_args()
    handlers = {
        "Describe": grpc.unary_unary_rpc_method_handler(lambda _, context: seen(arguments.name, context)),
        "Watch": grpc.stream_stream_rpc_method_handler(
            lambda requests, context: (seen(arguments.name, context) for _ in requests)
        ),
    }
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("provider.Provider", handlers),))
    credentials = grpc.dynamic_ssl_server_credentials(
        configuration(arguments), lambda: configuration(arguments), require_client_authentication=True
    )
    print(server.add_secure_port("127.0.0.1:0", credentials), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
