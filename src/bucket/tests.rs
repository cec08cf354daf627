//! Tests of a bucket.
