"""``inference.GRPCInferenceService``: the protocol of KServe v2 and Triton, for clients that speak it already."""

from kniv.server.services.inference.service import SERVICE, InferenceService

__all__ = ["SERVICE", "InferenceService"]
