"""A collector that answers and keeps nothing, and so costs next to nothing; prints its endpoint."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc


def main() -> None:
    """Serve until the process is ended."""
    accept = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")

    class Anything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> object:
            return accept

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Anything()])
    print(f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
