"""What all tests share: plugins, and readable failures in the contract suites."""

import pytest

pytest_plugins = ["fixtures_kafka", "fixtures_mesh"]
pytest.register_assert_rewrite("mesh.testing.broker_contract")
