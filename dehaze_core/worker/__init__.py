# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a process of its own: reads a job file, answers with one JSON object a line.

`python -I -u -X utf8 -m dehaze_core.worker JOB` runs one job. This package and `protocol` are
imported inside QGIS as well, so neither may import anything beyond the standard library.
"""
