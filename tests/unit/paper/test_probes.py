from __future__ import annotations

import json
from pathlib import Path

from assay.paper.sentences import PROBED, probe_file, probe_networks


def test_each_network_is_probed_once_for_as_many_images(tmp_path: Path) -> None:
    written = list(probe_networks(tmp_path, limit=8))
    assert written == [probe_file(tmp_path, name) for name in PROBED]
    plain, distilled, published = (json.loads(path.read_text()) for path in written)
    assert [one["n"] for one in (plain, distilled, published)] == [8, 8, 8]
    assert plain["zero"] == 0
    assert min(distilled["zero"], published["zero"]) > 0.5
    assert plain["gaps"]["0.5"] < 30 < distilled["gaps"]["0.5"]
    assert list(probe_networks(tmp_path, limit=8)) == []
    written[1].write_text("cut off")
    assert list(probe_networks(tmp_path, limit=8)) == [written[1]]
    assert len(list(probe_networks(tmp_path, limit=9))) == 3
