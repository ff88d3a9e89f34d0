"""The gRPC services: wire messages in, wire messages out."""
