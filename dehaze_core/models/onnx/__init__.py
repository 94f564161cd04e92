# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks as ONNX graphs, for onnxruntime and for other programs."""
