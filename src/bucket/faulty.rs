//! A store that fails, for tests.
