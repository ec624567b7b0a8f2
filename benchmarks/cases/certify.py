"""AutoAttack's number with the proved images left alone: the cascade after a bound against the authors' package."""

from __future__ import annotations

import json

from benchmarks.children import run_python
from benchmarks.measure import Outcome, Ratio, Row, at_most

DIGITS = 200
SUBJECTS = (("zoo:mnist-certified", 0.1, 1 / 25), ("zoo:mnist-pgd", 0.1, 0.1), ("zoo:mnist-pgd", 0.15, 0.1))
_HEAD = """
import json, time
import assay, torch
model = assay.load_model({model!r})
data = assay.load_data("mnist/test", limit={digits})
"""
OURS = (
    _HEAD
    + """
began = time.process_time()
run = assay.evaluate(
    model, data, "cascade", assay.Linf({eps}), certify="first", audit="off", doctor=False, display="none"
)
spent = time.process_time() - began
kept = sorted(one["sample_id"] for one in run.records(["sample_id", "status"]).to_pylist()
              if one["status"] in ("survived", "certified"))
print(json.dumps({{"seconds": spent, "kept": kept, "certified": run.results()[0].certified}}))
"""
)
AUTHORS = (
    _HEAD
    + """
from pyautoattack import AutoAttack
x = torch.stack([data.read(at) for at in range(len(data))])
y = torch.tensor(data.labels)
with model.held():
    began = time.process_time()
    attack = AutoAttack(model.module, norm="Linf", eps={eps}, version="standard", device="cpu", seed=0)
    found = attack.run_standard_evaluation(x, y, batch_size=len(x))[0]
    spent = time.process_time() - began
    with torch.no_grad():
        right = model.module(found).argmax(1) == y
print(json.dumps({{"seconds": spent, "kept": sorted(data.ids[at] for at in right.nonzero().flatten().tolist())}}))
"""
)


def measure(repeats: int) -> Outcome:
    """Run both in processes of their own, on one thread; CPU time of the evaluation alone, each once per repeat."""
    rows: list[Row] = []
    ratios: list[Ratio] = []
    for model, eps, share in SUBJECTS:
        found = {
            name: [
                json.loads(run_python(code.format(model=model, eps=eps, digits=DIGITS), threads=1))
                for _ in range(repeats)
            ]
            for name, code in (("assay, certify first", OURS), ("AutoAttack, standard", AUTHORS))
        }
        ours, theirs = found.values()
        for name, runs in found.items():
            seconds = sorted(one["seconds"] for one in runs)
            told = f"{len(runs[0]['kept'])} of {DIGITS} left"
            told += f", {runs[0]['certified']} certified" if "certified" in runs[0] else ""
            rows.append(Row(f"{name}: {model}, {eps}", seconds[len(seconds) // 2], seconds[0], seconds[-1], told))
        median = [sorted(one["seconds"] for one in runs)[len(runs) // 2] for runs in (ours, theirs)]
        ratios.append(at_most(f"{model}, {eps}: time over the authors'", median[0] / median[1], share))
        more = len(set(ours[0]["kept"]) - set(theirs[0]["kept"]))
        ratios.append(at_most(f"{model}, {eps}: images left that AutoAttack breaks", more, 0))
    return Outcome("certify", f"Linf, the first {DIGITS} test digits, CPU time of one thread", "s", rows, ratios)
