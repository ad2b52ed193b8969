# SPDX-License-Identifier: GPL-2.0-or-later
"""The operator's question: every defence, under every attack, beside the same honest phones."""
