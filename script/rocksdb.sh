# shellcheck shell=bash
# Sourced after env.sh by scripts that compile our code in a way of their own (fuzzing, coverage): RocksDB is linked as it was
# compiled, for it takes a quarter of an hour and is not what they look at.

link_compiled_rocksdb() {
  local library
  library=$(find "$CARGO_TARGET_DIR"/release/build/librocksdb-sys-*/out -name librocksdb.a -print -quit 2>/dev/null) || true
  [[ -n $library ]] || {
    echo "RocksDB is not compiled yet: run script/test first" >&2
    return 1
  }
  ROCKSDB_LIB_DIR=$(dirname -- "$library")
  export ROCKSDB_LIB_DIR SNAPPY_LIB_DIR=$ROCKSDB_LIB_DIR ROCKSDB_STATIC=1 SNAPPY_STATIC=1
}
