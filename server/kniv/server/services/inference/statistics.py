"""ModelStatistics: what the model versions have done since they were loaded."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from kniv.server.models.catalogue import Catalogue
from kniv.server.models.statistics import Statistics, Tally
from kniv.server.models.version import LoadedVersion
from kniv.server.services.inference.parameters import version_of

_NS = 1e9
_MS = 1e3


def model_statistics(request: pb.ModelStatisticsRequest, catalogue: Catalogue) -> pb.ModelStatisticsResponse:
    """Answer a request for statistics: of one version, of all that are ready of a model, or of all models.

    Raises:
        InvalidRequestError: the version is no number.
        NotFoundError, NotReadyError: what is named cannot be had.
    """
    version = version_of(request.version, "version")
    if version:
        found = [catalogue.find(request.name, version)]
    else:
        names = [request.name] if request.name else catalogue.names()
        entries = [entry for name in names for entry in reversed(catalogue.versions(name).values())]
        found = [entry.loaded for entry in entries if entry.loaded is not None]
    return pb.ModelStatisticsResponse(model_stats=[_version(loaded) for loaded in found])


def _version(loaded: LoadedVersion) -> pb.ModelStatistics:
    counted = loaded.statistics
    return pb.ModelStatistics(
        name=loaded.model,
        version=str(loaded.number),
        last_inference=int(counted.last * _MS),
        inference_count=counted.inferences,
        execution_count=counted.executions,
        inference_stats=pb.InferStatistics(
            success=_duration(counted.success),
            fail=_duration(counted.fail),
            queue=_duration(counted.queue),
            compute_input=_duration(counted.input),
            compute_infer=_duration(counted.infer),
            compute_output=_duration(counted.output),
            cache_hit=_duration(Tally()),
            cache_miss=_duration(Tally()),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=rows,
                compute_input=_duration(batch.input),
                compute_infer=_duration(batch.infer),
                compute_output=_duration(batch.output),
            )
            for rows, batch in sorted(counted.batches.items())
        ],
        response_stats={"0": _response(counted)},
    )


def _response(counted: Statistics) -> pb.InferResponseStatistics:
    """Each request has one response; only here is there a place for those that were given up."""
    return pb.InferResponseStatistics(
        compute_infer=_duration(counted.infer),
        compute_output=_duration(counted.output),
        success=_duration(counted.success),
        fail=_duration(counted.fail),
        empty_response=_duration(Tally()),
        cancel=_duration(counted.cancel),
    )


def _duration(tally: Tally) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=tally.count, ns=round(tally.seconds * _NS))
