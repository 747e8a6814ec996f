"""Suites are imported, not collected: let their assertions explain themselves all the same."""

import pytest

pytest.register_assert_rewrite(
    "tests.contract.client_deletes",
    "tests.contract.client_kit",
    "tests.contract.client_reads",
    "tests.contract.client_watches",
    "tests.contract.client_writes",
    "tests.contract.store_suite",
)
