# shellcheck shell=bash
# Sourced by the other scripts: where things are built, the same for all of them.

# RocksDB is C++ and takes a quarter of an hour to compile. One target directory outside the working tree lets every
# clone, branch and script share the one that is there, and `git clean` keeps it.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/freqcap/target}"

# Cargo takes the crates of two clones for the same, and which is built by the age of its files: the older clone would run
# the other's code. So whenever the clone changes, our own crates (not RocksDB) are built anew.
clone=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -d $CARGO_TARGET_DIR/release && $(cat "$CARGO_TARGET_DIR/clone" 2>/dev/null) != "$clone" ]]; then
  # Cargo's own lock: a build of the other clone that is under way would fail if its records vanished.
  flock "$CARGO_TARGET_DIR/release/.cargo-lock" rm -rf -- "$CARGO_TARGET_DIR"/release/.fingerprint/freqcap-*
fi
mkdir -p -- "$CARGO_TARGET_DIR"
printf '%s\n' "$clone" >"$CARGO_TARGET_DIR/clone"

# rustup puts cargo on the PATH of login shells only; services and CI runners have no such shell.
if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
  PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

# Java's own way to choose among several.
if [[ -n ${JAVA_HOME:-} ]]; then
  PATH="$JAVA_HOME/bin:$PATH"
fi

# rust-toolchain.toml asks for `stable`, which rustup would download where it is not installed. A machine that has another
# toolchain only, such as the Rust image, builds with that.
if [[ -z ${RUSTUP_TOOLCHAIN:-} ]] && command -v rustup >/dev/null; then
  installed=$(rustup toolchain list --quiet 2>/dev/null) || installed=
  if [[ -n $installed && $installed != *stable* ]]; then
    RUSTUP_TOOLCHAIN=${installed%%$'\n'*}
    export RUSTUP_TOOLCHAIN
  fi
fi
