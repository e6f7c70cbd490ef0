"""One HTTPS request with the TLS shape of a browser; prints the body."""

import argparse
import sys

from curl_cffi import CurlOpt, requests


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", required=True, help="chrome or firefox")
    parser.add_argument("--url", required=True)
    parser.add_argument("--resolve", required=True, help="NAME:PORT:ADDRESS, as curl takes it")
    parser.add_argument("--ca", required=True, help="PEM file of the authority to trust")
    parser.add_argument("--cert", help="PEM file of the client's certificate")
    parser.add_argument("--key", help="PEM file of its key")
    arguments = parser.parse_args()
    response = requests.get(
        arguments.url,
        impersonate=arguments.profile,
        verify=arguments.ca,
        cert=(arguments.cert, arguments.key) if arguments.cert else None,
        curl_options={CurlOpt.RESOLVE: [arguments.resolve]},
        timeout=30,
    )
    sys.stdout.write(response.text)
    return 0 if response.status_code == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
