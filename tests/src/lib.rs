//! Integration tests of whole deployments; the tests themselves are in `tests/tests`.
