"""A gRPC manager with mutual TLS. One command a line on its standard input, one JSON object a line as the answer:

call    a unary call on the present connection
watch   one more message on a stream that stays open
renew   closes the connection; the next call makes a new one, with the certificate that the files have then
"""

import argparse
import json
import pathlib
import queue
import sys

import grpc

TIMEOUT_SECONDS = 30


class Manager:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.renew()

    def renew(self) -> dict:
        if hasattr(self, "channel"):
            self.channel.close()
        read = lambda path: pathlib.Path(path).read_bytes()
        credentials = grpc.ssl_channel_credentials(
            read(self.arguments.ca), read(self.arguments.key), read(self.arguments.cert)
        )
        options = [
            ("grpc.ssl_target_name_override", self.arguments.name),
            ("grpc.default_authority", self.arguments.name),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        self.channel = grpc.secure_channel(f"ipv4:{self.arguments.address}", credentials, options)
        self.requests = None
        return {}

    def call(self) -> dict:
        return json.loads(self.channel.unary_unary("/provider.Provider/Describe")(b"", timeout=TIMEOUT_SECONDS))

    def watch(self) -> dict:
        if self.requests is None:
            self.requests = queue.Queue()
            self.answers = self.channel.stream_stream("/provider.Provider/Watch")(iter(self.requests.get, None))
        self.requests.put(b"")
        return json.loads(next(self.answers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--address", "--name", "--ca", "--cert", "--key"):
        parser.add_argument(option, required=True)
    manager = Manager(parser.parse_args())
    for line in sys.stdin:
        try:
            answer = {"call": manager.call, "watch": manager.watch, "renew": manager.renew}[line.strip()]()
        except grpc.RpcError as error:
            answer = {"error": error.code().name, "details": error.details()}
        print(json.dumps(answer), flush=True)
    if manager.requests is not None:
        manager.requests.put(None)
    manager.channel.close()


if __name__ == "__main__":
    main()
