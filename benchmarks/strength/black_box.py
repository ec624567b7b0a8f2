"""The rows of attacks that see scores or labels alone, and of those made on another network."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.strength.board import DISTANCE, OURS, QUERIES, TRANSFER, Contender, Row


def black_box(subject: str, short: str = "cnn") -> Iterator[Row]:
    """Return the rows of equal queries: initialisation and bisections count, image by image."""
    square = Contender(OURS, "square", {"queries": 1000, "rescale": True})
    yield _queries("square", subject, short, "linf", 0.2, 1000, square, (
        Contender("pyautoattack", "square", {"norm": "Linf", "eps": 0.2, "n_queries": 1000, "p_init": 0.8}),
        Contender("art", "SquareAttack", {"norm": "inf", "eps": 0.2, "max_iter": 1000, "p_init": 0.8}),
    ))  # fmt: skip
    yield _distance("hop-skip-jump", subject, short, 2000, Contender(OURS, "hop-skip-jump", {"queries": 2000}), (
        Contender("foolbox", "HopSkipJumpAttack", {"steps": 64}),
        Contender("art", "HopSkipJump", {"max_iter": 64, "batch_size": 128}),
    ))  # fmt: skip
    yield _distance("boundary", subject, short, 5000, Contender(OURS, "boundary", {"queries": 5000}), (
        Contender("foolbox", "BoundaryAttack", {"steps": 25000}),
        Contender("art", "BoundaryAttack", {"targeted": False, "batch_size": 128}, images=10),
    ))  # fmt: skip
    yield _queries("simba", subject, short, "linf", 0.2, 2000, Contender(OURS, "simba", {"queries": 2000}), (
        Contender("art", "SimBA", {"attack": "px", "epsilon": 0.2, "max_iter": 1000, "as_probabilities": True}),
    ))  # fmt: skip
    spsa = {"eps": 0.2, "delta": 0.01, "lr": 0.01, "nb_iter": 16, "nb_sample": 128, "max_batch_size": 128}
    for attack in ("spsa", "nes"):
        yield _queries(attack, subject, short, "linf", 0.2, 4096, Contender(OURS, attack, {"queries": 4096}), (
            Contender("torchattacks", "SPSA", spsa),
        ))  # fmt: skip
    pixels = {"pixels": 5, "steps": 100, "popsize": 400}
    ours = Contender(OURS, "one-pixel", {"population": 400, "generations": 9})
    yield _queries("one-pixel", subject, short, "l0", 5.0, 4000, ours, (
        Contender("torchattacks", "OnePixel", pixels),
    ))  # fmt: skip


def transfer(surrogate: str, target: str, short: str, eps: float = 0.2) -> Iterator[Row]:
    """Return the rows of attacks made on `surrogate` and judged by `target`: ten steps of eps / 10."""
    steps = {"eps": eps, "alpha": eps / 10, "steps": 10}
    for ours, theirs, more in (
        ("mi-fgsm", "MIFGSM", {}),
        ("ni-fgsm", "NIFGSM", {}),
        ("di-fgsm", "DIFGSM", {"decay": 1.0}),
        ("vmi-fgsm", "VMIFGSM", {}),
    ):
        peers = (Contender("torchattacks", theirs, {**steps, **more}),)
        own = Contender(OURS, ours, {"steps": 10})
        yield Row(f"{ours}-linf-{eps:g}@cnn-to-{short}", TRANSFER, target, "linf", own, peers, eps=eps,
                  surrogate=surrogate)  # fmt: skip


def _queries(  # shape: the columns of a table
    attack: str, subject: str, short: str, norm: str, eps: float, limit: int, ours: Contender,
    peers: tuple[Contender, ...],
) -> Row:  # fmt: skip
    name = f"{attack}-queries-{norm}-{eps:g}@{short}"
    return Row(name, QUERIES, subject, norm, ours, peers, images=50, eps=eps, limit=limit)


def _distance(  # shape: the columns of a table
    attack: str, subject: str, short: str, limit: int, ours: Contender, peers: tuple[Contender, ...]
) -> Row:
    name = f"{attack}-{limit}-queries-l2@{short}"
    return Row(name, DISTANCE, subject, "l2", ours, peers, images=30, limit=limit)
