"""What Triton counts itself."""

from __future__ import annotations

import dataclasses
import re
import urllib.request

from tests.support.served import Server


@dataclasses.dataclass(frozen=True)
class Counted:
    """Rows and requests that Triton answered for one model since it was started."""

    rows: int
    requests: int

    @classmethod
    def of(cls, server: Server, model: str) -> Counted:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{server.ports[2]}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = {}
        for name in ("nv_inference_count", "nv_inference_request_success"):
            line = re.search(rf'^{name}{{[^}}]*model="{model}"[^}}]*}} (\S+)$', text, re.MULTILINE)
            assert line, text
            found[name] = int(float(line[1]))
        return cls(found["nv_inference_count"], found["nv_inference_request_success"])

    def since(self, before: Counted) -> Counted:
        return Counted(self.rows - before.rows, self.requests - before.requests)
