"""The rows of the board, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.strength.black_box import black_box, transfer
from benchmarks.strength.board import BUDGET, MINIMUM, OURS, Contender, Row

CNN = "zoo:mnist-cnn"
DISTILLED = "zoo:mnist-distilled-t100"
PUBLISHED = "zoo:mnist-distilled-t100-as-published"
ROBUST = "zoo:mnist-pgd"
LITE = "efficientnet-lite0"
GUARDED = "benchmarks.strength.guarded:cnn"
FRESH = {name: f"benchmarks.strength.fresh:{name}" for name in ("pgd", "trades", "l2")}

SHORT = {CNN: "cnn", DISTILLED: "distilled", PUBLISHED: "as-published", ROBUST: "robust", LITE: "lite0"}
SHORT |= {GUARDED: "guarded", **{path: f"fresh-{name}" for name, path in FRESH.items()}}
AUTHORS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
ORDER: dict[str, float] = {"linf": float("inf"), "l2": 2.0, "l1": 1.0, "l0": 0.0}
FOOLBOX = {"linf": "LInf", "l2": "L2", "l1": "L1", "l0": "L0"}


# of attacks from one random start, which breaks an image of two hundred more or less
SEEDS = 5


def budget_row(
    attack: str, subject: str, norm: str, eps: float, ours: Contender, peers: Iterable[Contender], **more: object
) -> Row:  # shape: the columns of a table
    """Return a row of a fixed budget; an image of 20 pictures is 5 % of them."""
    lite = {"images": 20, "allowance": 1, "reportable": False, "seeds": 1} if subject == LITE else {}
    name = f"{attack}-{norm}-{eps:g}@{SHORT[subject]}"
    return Row(name, BUDGET, subject, norm, ours, tuple(peers), eps=eps, **{**more, **lite})


def minimum_row(
    attack: str, subject: str, norm: str, ours: Contender, peers: Iterable[Contender], **more: object
) -> Row:  # shape: the columns of a table
    """Return a row of a minimum norm."""
    lite = {"images": 20, "reportable": False} if subject == LITE else {}
    name = f"{attack}-{norm}@{SHORT[subject]}"
    return Row(name, MINIMUM, subject, norm, ours, tuple(peers), **{**more, **lite})


def pgd(subject: str, eps: float, loss: str, steps: int = 40, **more: object) -> Row:
    """PGD in Linf from a random start with the step of Madry et al., 2.5 eps / steps."""
    step, short = 2.5 / steps, {"cross_entropy": "ce", "margin": "dl"}[loss]
    peers = [
        Contender(
            "adv-lib",
            "pgd_linf",
            {"\u03b5": eps, "steps": steps, "loss_function": short, "relative_step_size": step},
        )
    ]
    if loss == "cross_entropy":
        peers += [
            Contender("foolbox", "LinfPGD", {"eps": eps, "steps": steps, "rel_stepsize": step}),
            Contender("torchattacks", "PGD", {"eps": eps, "alpha": step * eps, "steps": steps}),
        ]
    ours = Contender(OURS, "pgd", {"steps": steps, "objective": loss})
    return budget_row(f"pgd-{short}", subject, "linf", eps, ours, peers, seeds=SEEDS, **more)


def apgd(subject: str, norm: str, eps: float, loss: str, steps: int = 100, **more: object) -> Row:
    """APGD from one random start."""
    authors = {"norm": AUTHORS[norm], "eps": eps, "n_iter": steps, "loss": loss}
    library = {"norm": ORDER[norm], "eps": eps, "n_iter": steps, "loss_function": loss}
    if norm == "l1":
        authors["use_largereps"], library["use_large_reps"] = True, True
    peers = [Contender("pyautoattack", "apgd", authors), Contender("adv-lib", "apgd", library)]
    objective = {"ce": "cross_entropy", "dlr": "dlr"}[loss]
    ours = Contender(OURS, "apgd", {"steps": steps, "objective": objective})
    return budget_row(f"apgd-{loss}", subject, norm, eps, ours, peers, seeds=SEEDS, **more)


def apgd_t(subject: str, norm: str, eps: float, **more: object) -> Row:
    """Targeted APGD: nine targets, 100 steps each (five targets in L1)."""
    targets = 5 if norm == "l1" else 9
    authors = {"norm": AUTHORS[norm], "eps": eps, "n_target_classes": targets, "use_largereps": norm == "l1"}
    library = {"norm": ORDER[norm], "eps": eps, "num_targets": targets, "use_large_reps": norm == "l1"}
    peers = [Contender("pyautoattack", "apgd-t", authors)]
    if norm == "linf" and subject == CNN:
        peers += [
            Contender("adv-lib", "apgd_targeted", library),
        ]
    ours = Contender(OURS, "apgd-t", {"targets": targets})
    return budget_row("apgd-t", subject, norm, eps, ours, peers, images=100, seeds=SEEDS, **more)


def fab_t(subject: str, norm: str, eps: float, **more: object) -> Row:
    """Targeted FAB: nine targets, 100 steps each."""
    authors = {"norm": AUTHORS[norm], "eps": eps, "targeted": True, "n_target_classes": 9}
    peers = [Contender("pyautoattack", "fab", authors)]
    return budget_row("fab-t", subject, norm, eps, Contender(OURS, "fab-t", {}), peers, images=100, **more)


def square(subject: str, norm: str, eps: float, queries: int = 1000, **more: object) -> Row:
    """Square with the authors' p = 0.8 for MNIST, the schedule rescaled to the queries."""
    options = {"norm": AUTHORS[norm], "eps": eps, "n_queries": queries, "p_init": 0.8, "resc_schedule": True}
    peers = [Contender(library, call, options) for library, call in (("pyautoattack", "square"),)]
    if norm == "linf" and subject == CNN:
        peers.append(Contender("torchattacks", "Square", options))
    ours = Contender(OURS, "square", {"queries": queries, "rescale": True})
    return budget_row("square", subject, norm, eps, ours, peers, images=100, **more)


def whole(subject: str, norm: str, eps: float, images: int = 100) -> Iterator[Row]:
    """AutoAttack standard, stage by stage the same; and our cascade against it."""
    authors = Contender("pyautoattack", "standard", {"norm": AUTHORS[norm], "eps": eps, "seed": 0})
    peers = [authors]
    ours = Contender(OURS, "autoattack", {})
    yield budget_row("autoattack", subject, norm, eps, ours, peers, images=images)
    cascade = Contender(OURS, "cascade", {})
    more = {"images": images, "allowance": 1, "share": 1 / 8}
    yield budget_row("cascade", subject, norm, eps, cascade, [authors], **more)


def ddn(subject: str, steps: int = 100) -> Row:
    """DDN without quantisation."""
    peers = [
        Contender("adv-lib", "ddn", {"steps": steps, "levels": None}),
        Contender("foolbox", "DDNAttack", {"steps": steps}),
    ]
    return minimum_row("ddn", subject, "l2", Contender(OURS, "ddn", {"steps": steps}), peers)


def fmn(subject: str, norm: str, steps: int = 100) -> Row:
    """FMN; in Linf also with the step of 10 that AttackBench found to suit it."""
    lengths = (1.0, 10.0) if norm == "linf" else (1.0,)
    peers = [
        Contender("adv-lib", "fmn", {"norm": ORDER[norm], "steps": steps, "\u03b1_init": size}) for size in lengths
    ]
    peers += [
        Contender("foolbox", f"{FOOLBOX[norm]}FMNAttack", {"steps": steps, "max_stepsize": size}) for size in lengths
    ]
    return minimum_row("fmn", subject, norm, Contender(OURS, "fmn", {"steps": steps}), peers)


def deepfool(subject: str, norm: str) -> Row:
    """DeepFool with 50 steps and 2 % overshoot."""
    name = {"l2": "L2DeepFoolAttack", "linf": "LinfDeepFoolAttack"}[norm]
    peers = [
        Contender("foolbox", name, {"steps": 50}),
        Contender("adv-lib", "df", {"steps": 50, "norm": ORDER[norm], "return_unsuccessful": True}),
    ]
    return minimum_row("deepfool", subject, norm, Contender(OURS, "deepfool", {"steps": 50}), peers)


def superdeepfool(subject: str) -> Row:
    """SuperDeepFool as its authors set it."""
    ours = Contender(OURS, "superdeepfool", {})
    return minimum_row("superdeepfool", subject, "l2", ours, [Contender("adv-lib", "sdf", {})])


def fab(subject: str, norm: str) -> Row:
    """Untargeted FAB from the image itself: our 400 steps pass less often than their 100 of nine backwards each."""
    authors = {"norm": AUTHORS[norm], "eps": 1e6, "n_iter": 100}
    peers = [Contender("pyautoattack", "fab", authors), Contender("adv-lib", "fab", {"norm": ORDER[norm]})]
    return minimum_row("fab", subject, norm, Contender(OURS, "fab", {"steps": 400}), peers, images=100)


def steps_row(attack: str, subject: str, norm: str, call: str, options: dict[str, object], steps: int) -> Row:
    """Return a row of an attack that adv-lib has the reference code of."""  # shape: the columns of a table
    peers = [Contender("adv-lib", call, {**options, "num_steps": steps})]
    return minimum_row(attack, subject, norm, Contender(OURS, attack, {"steps": steps}), peers, images=100)


def primal_dual(subject: str, norms: Iterable[str] = ("l2", "linf", "l1", "l0")) -> Iterator[Row]:
    """ALMA, PDPGD and sigma-zero. In L0 PDPGD takes six times as many values as sigma-zero, and ours has no L0."""
    for norm in norms:
        if norm in ("l2", "l1"):
            first = {"l2": 0.1, "l1": 0.5}[norm]
            yield steps_row("alma", subject, norm, "alma", {"distance": norm, "init_lr_distance": first}, 300)
        if norm == "l0":
            yield steps_row("sigma-zero", subject, norm, "sigma_zero", {}, 100)
        else:
            yield steps_row("pdpgd", subject, norm, "pdpgd", {"norm": ORDER[norm]}, 300)


def carlini_wagner(subject: str, steps: int = 200, images: int = 100) -> Row:
    """Carlini-Wagner in L2: nine searches; the documented rate of 0.01, and 0.05, which suits 200 steps better."""
    peers = [Contender("foolbox", "L2CarliniWagnerAttack", {"steps": steps, "stepsize": rate}) for rate in (0.01, 0.05)]
    peers.append(Contender("adv-lib", "carlini_wagner_l2", {"max_iterations": steps, "learning_rate": 0.05}))
    ours = Contender(OURS, "carlini-wagner", {})
    return minimum_row("carlini-wagner", subject, "l2", ours, peers, images=images)


def elastic_net(subject: str, steps: int = 200) -> Row:
    """EAD judged in L1: nine searches."""
    settings = {"steps": steps, "decision_rule": "L1", "regularization": 0.01}
    peers = [Contender("foolbox", "EADAttack", {**settings, "initial_stepsize": rate}) for rate in (0.01, 0.05)]
    peers.append(Contender("torchattacks", "EADL1", {"max_iterations": steps}, images=30))
    return minimum_row("ead", subject, "l1", Contender(OURS, "ead", {}), peers, images=100)


def jsma(subject: str) -> Row:
    """JSMA: whole pixels, at most 14.5 % of them, towards the likeliest wrong class."""
    peers = [
        Contender("torchattacks", "JSMA", {"theta": 1.0, "gamma": 0.145, "targeted": True}),
        Contender("art", "SaliencyMapMethod", {"theta": 1.0, "gamma": 0.145}),
    ]
    return minimum_row("jsma", subject, "l0", Contender(OURS, "jsma", {}), peers, images=30)


def lbfgs(subject: str) -> Row:
    """Box-constrained L-BFGS against scipy's, towards the likeliest wrong class."""
    peers = [Contender("scipy", "lbfgs", {"searches": 9, "iterations": 50}, images=20)]
    return minimum_row("lbfgs", subject, "l2", Contender(OURS, "lbfgs", {}), peers, images=20)


def on_cnn() -> Iterator[Row]:
    """The rows of the plain MNIST network: every attack."""
    yield ddn(CNN)
    for norm in ("l2", "linf", "l1", "l0"):
        yield fmn(CNN, norm)
    yield from (apgd(CNN, "linf", 0.1, loss) for loss in ("ce", "dlr"))
    yield from (pgd(CNN, 0.1, loss) for loss in ("cross_entropy", "margin"))
    yield from (deepfool(CNN, norm) for norm in ("l2", "linf"))
    yield superdeepfool(CNN)
    yield from (fab(CNN, norm) for norm in ("linf", "l2", "l1"))
    yield from primal_dual(CNN)
    yield from (apgd(CNN, norm, eps, "ce", images=100) for norm, eps in (("l2", 1.5), ("l1", 10.0)))
    yield square(CNN, "linf", 0.2)
    yield from whole(CNN, "linf", 0.1)
    yield carlini_wagner(CNN)
    yield from black_box(CNN)
    yield from (apgd_t(CNN, norm, eps) for norm, eps in (("linf", 0.1), ("l2", 1.5), ("l1", 10.0)))
    yield from (fab_t(CNN, norm, eps) for norm, eps in (("linf", 0.1), ("l2", 1.5), ("l1", 10.0)))
    yield from (square(CNN, norm, eps) for norm, eps in (("l2", 2.5), ("l1", 20.0)))
    yield elastic_net(CNN)
    yield jsma(CNN)
    yield lbfgs(CNN)
    yield from transfer(CNN, DISTILLED, "distilled")
    yield from (apgd(CNN, norm, eps, "dlr", images=100) for norm, eps in (("l2", 1.5), ("l1", 10.0)))
    yield from (row for norm, eps in (("l2", 1.5), ("l1", 10.0)) for row in whole(CNN, norm, eps))


def on_guarded() -> Iterator[Row]:
    """The plain network behind a clamp that changes no digit: what ours leaves is to be what it leaves of `cnn`."""
    yield pgd(GUARDED, 0.1, "cross_entropy")
    yield apgd(GUARDED, "linf", 0.1, "ce")
    yield ddn(GUARDED)
    yield fmn(GUARDED, "linf")
    yield from whole(GUARDED, "linf", 0.1)


def on_hardened(subject: str, eps: float, l2: float) -> Iterator[Row]:
    """The rows of a distilled or adversarially trained network: the attacks that reports lean on."""
    yield ddn(subject)
    yield from (fmn(subject, norm) for norm in ("linf", "l2"))
    yield apgd(subject, "linf", eps, "ce")
    yield apgd(subject, "linf", eps, "dlr")
    yield from whole(subject, "linf", eps)
    yield carlini_wagner(subject, images=50)
    yield fmn(subject, "l0")
    yield from primal_dual(subject, ("l2", "l0"))
    yield apgd(subject, "l2", l2, "ce", images=100)
    yield square(subject, "linf", eps)


def on_fresh() -> Iterator[Row]:
    """Networks of other seeds, architectures and trainings, where many images lie near the boundary."""
    budgets = (
        ("pgd", "linf", 0.3),
        ("trades", "linf", 0.2),
        ("l2", "l2", 1.5),
        ("l2", "linf", 0.1),
        ("pgd", "l1", 6.0),
    )
    for name, norm, eps in budgets:
        yield list(whole(FRESH[name], norm, eps))[-1]


def on_pictures() -> Iterator[Row]:
    """EfficientNet-Lite0 with the sample pictures: shorter runs, and too few images for a report."""
    yield pgd(LITE, 0.001, "cross_entropy", 20)
    yield apgd(LITE, "linf", 0.001, "ce", 30)
    yield ddn(LITE, 50)
    yield fmn(LITE, "linf", 50)


def rows() -> dict[str, Row]:
    """Return all rows by name."""
    listed = [
        *on_cnn(),
        *on_guarded(),
        *on_hardened(DISTILLED, 0.1, 1.5),
        *on_hardened(PUBLISHED, 0.1, 1.5),
        *on_hardened(ROBUST, 0.3, 2.0),
        *on_fresh(),
        *on_pictures(),
    ]
    named = {row.name: row for row in listed}
    if len(named) != len(listed):
        raise ValueError("two rows of the board have one name")
    return named
