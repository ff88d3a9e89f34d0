"""What is measured: shapes, contenders, and how long."""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, int]  # rows, subwords

SHAPES: tuple[Shape, ...] = ((1, 24), (1, 64), (1, 128), (8, 24), (8, 64), (32, 24), (32, 128))
MEMORY_SHAPE: Shape = (32, 128)
PREDICATES = 4.7  # verbs of a sentence in real chats
PACKED = 5  # least rows of roles in a batch: a single sentence's are run together
SIZES = ("small", "mini")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        sizes: models by size.
        shapes: of a run.
        threads: numbers of threads; every contender takes part at the first, the graphs alone at the others.
        least: rounds of a shape, at least.
        seconds: that a shape is measured, at least.
        torch: whether PyTorch takes part.
        vocabulary: entries of the small model's embedding table; None for the published number.
        memory: precisions whose peak memory is told.
        server_rounds, server_sentences: rounds through the server, and sentences of each.
        roofline_repeats: runs of a product whose ceiling is measured.
    """

    sizes: tuple[str, ...] = SIZES
    shapes: tuple[Shape, ...] = SHAPES
    threads: tuple[int, ...] = (2, 1)
    least: int = 3
    seconds: float = 6.0
    torch: bool = True
    vocabulary: int | None = None
    memory: tuple[str, ...] = ("FP32", "INT8")
    server_rounds: int = 9
    server_sentences: int = (
        200  # with 60, which are few documents, rounds told from 1.6 to 3.3 of one and the same thing
    )
    roofline_repeats: int = 30


FULL = Plan()
# A small table is sooner made; a look-up costs the same. Memory ratios are then not those of the published size.
QUICK = Plan(
    sizes=("small",),
    shapes=((1, 24), (1, 64), (8, 24)),
    threads=(2,),
    least=2,
    seconds=0.0,
    torch=False,
    vocabulary=16_000,
    memory=("INT8",),
    server_rounds=1,
    server_sentences=16,
    roofline_repeats=3,
)
