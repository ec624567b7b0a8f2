"""Arrow where its published stubs refuse what its functions take: compute functions, and tables of columns."""

from __future__ import annotations

from typing import Any

import pyarrow
import pyarrow.compute

compute: Any = pyarrow.compute
make_table: Any = pyarrow.table
