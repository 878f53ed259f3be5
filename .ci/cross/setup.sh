#!/usr/bin/env bash
# Unpacks, into one private folder, all that is needed to build and run the tests for other CPUs: a Debian rustc with the
# std of each target, a cross gcc to link with, its libc and AddressSanitizer, and a user-mode QEMU.
#
#   .ci/cross/setup.sh DIR [TARGET...]    aarch64 armv7 riscv64 s390x i686 wasm32 (default: all)
#
# Then `. DIR/env.sh`, and `cargo test --target …` works. Nothing is installed: packages come through apt with private
# state, from the mirror that this machine's apt is set up for, with signatures checked, and are only unpacked. A second
# run with the same arguments does nothing. DIR may not be moved, but it may be cached at the same path.
# RUST_FROM is where to look for rustc: SUITE or SUITE:web, the first that has it and every std in one version.

set -euo pipefail
export LC_ALL=C

say() { printf '%s\n' "setup: $*" >&2; }
die() { say "$*"; exit 1; }

[ $# -ge 1 ] || die "usage: $0 DIR [TARGET...]"
mkdir -p "$1"
DIR=$(cd "$1" && pwd -P)
shift
[ $# -gt 0 ] || set -- aarch64 armv7 riscv64 s390x i686 wasm32
MARK=$DIR/.setup # folders are removed below: only ever from our own DIR
[ -f "$MARK" ] || [ -z "$(ls -A "$DIR")" ] || die "$DIR is not empty and not mine"
: >"$MARK"
WASM=
TARGETS=
for t; do if [ "$t" = wasm32 ]; then WASM=wasm32; else TARGETS="$TARGETS $t"; fi; done
RUST_FROM=${RUST_FROM:-forky sid trixie:web}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
HOST_SUITE=$(. /etc/os-release && echo "$VERSION_CODENAME")
[ "$(dpkg --print-architecture)" = amd64 ] || die "made for an amd64 host"

# name -> Rust triple, Debian architecture, GNU triple, QEMU name
target() {
  case $1 in
    aarch64) triple=aarch64-unknown-linux-gnu      deb=arm64   gnu=aarch64-linux-gnu      qemu=aarch64 ;;
    armv7)   triple=armv7-unknown-linux-gnueabihf  deb=armhf   gnu=arm-linux-gnueabihf    qemu=arm ;;
    riscv64) triple=riscv64gc-unknown-linux-gnu    deb=riscv64 gnu=riscv64-linux-gnu      qemu=riscv64 ;;
    s390x)   triple=s390x-unknown-linux-gnu        deb=s390x   gnu=s390x-linux-gnu        qemu=s390x ;;
    i686)    triple=i686-unknown-linux-gnu         deb=i386    gnu=i686-linux-gnu         qemu=i386 ;;
    *) die "unknown target $1" ;;
  esac
}

DEBS=
for t in $TARGETS; do target "$t"; DEBS="$DEBS $deb"; done

WANT="$*|$RUST_FROM|$(cksum <"$0")"
if [ -f "$DIR/complete" ] && [ "$(cat "$DIR/complete")" = "$WANT" ]; then
  exit 0
fi
rm -rf "$DIR/complete" "$DIR/rust" "$DIR/cross" "$DIR/bin" "$DIR/debs" \
  "$DIR/env.sh" "$DIR/manifest"
mkdir -p "$DIR/debs" "$DIR/rust" "$DIR/cross" "$DIR/bin"

# The base address of the Debian archive, as this machine's apt has it.
URI=$(apt-get update --print-uris 2>/dev/null |
  sed -n "s#^'\(.*\)/dists/$HOST_SUITE/InRelease'.*#\1#p" | head -n 1)
[ -n "$URI" ] || die "no archive for $HOST_SUITE in apt's sources"

# suite NAME ARCH...: write a private apt configuration, fetch the lists.
suite() {
  local a=$DIR/apt/$1 name=$1
  shift
  mkdir -p "$a/lists/partial" "$a/archives/partial"
  : >"$a/status"
  echo "deb [signed-by=$KEYRING] $URI $name main" >"$a/sources.list"
  cat >"$a/apt.conf" <<EOF
Dir::State "$a";
Dir::State::lists "$a/lists";
Dir::State::status "$a/status";
Dir::Cache "$a";
Dir::Cache::archives "$a/archives";
Dir::Etc::sourcelist "$a/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
APT::Architectures { $(printf '"%s"; ' amd64 "$@") };
APT::Install-Recommends "0";
APT::Sandbox::User "root";
APT::Get::List-Cleanup "0";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "0";
EOF
  in_suite "$name" apt-get -qq update >&2
}
# in_suite NAME COMMAND ARG...: run an apt command with that suite only. (Some
# images turn apt's own cache off, which would have each call read all lists.)
in_suite() {
  APT_CONFIG=$DIR/apt/$1/apt.conf "$2" -o Dir::Cache::pkgcache=pkgcache.bin \
    -o Dir::Cache::srcpkgcache=srcpkgcache.bin "${@:3}"
}

version() { # SUITE PACKAGE[:ARCH]
  in_suite "$1" apt-cache show --no-all-versions "$2" 2>/dev/null | sed -n 's/^Version: //p' | head -n 1
}
# closure SUITE PACKAGE...: the packages and all they depend on.
closure() {
  in_suite "$1" apt-get -qq --print-uris --no-install-recommends install "${@:2}" |
    sed -n "s/^'[^']*' \([^_ ]*\)_[^_ ]*_\([^_ .]*\)\.deb .*/\1:\2/p" | sed 's/:all$//'
}
# unpack SUITE FOLDER PACKAGE...: download (checked by apt) and unpack.
unpack() {
  local d=$DIR/debs/${2##*/} f
  mkdir -p "$d"
  (cd "$d" && in_suite "$1" apt-get -qq download "${@:3}" >&2)
  for f in "$d"/*.deb; do
    dpkg-deb -x "$f" "$2"
    printf '%s %s %s\n' "$1" "$(dpkg-deb --showformat='${Package}:${Architecture} ${Version}' -W "$f")" \
      "$(sha256sum <"$f" | cut -d' ' -f1)" >>"$DIR/manifest"
  done
}

# --- rustc and std -----------------------------------------------------------
FROM=
for from in $RUST_FROM; do
  s=${from%%:*}
  case $from in *:web) pre=-web ;; *) pre= ;; esac
  say "looking for rustc$pre in $s"
  suite "$s" $DEBS || continue
  v=$(version "$s" "rustc$pre")
  [ -n "$v" ] || continue
  same=1
  for p in $(printf -- "-dev:%s " amd64 $DEBS) ${WASM:+-dev-$WASM}; do # a rebuild of the same source (+b1) matches too
    w=$(version "$s" "libstd-rust$pre$p")
    [ "${w%+b*}" = "${v%+b*}" ] || { same=; say "  libstd-rust$pre$p is ${w:-absent}, not $v"; }
  done
  [ -n "$same" ] && { FROM=$s; break; }
done
[ -n "$FROM" ] || die "no suite has rustc and std for: $TARGETS"
say "rustc$pre $v from $FROM"

std="libstd-rust$pre-dev"
unpack "$FROM" "$DIR/rust" "rustc$pre" $(closure "$FROM" "$std") $(printf "$std:%s " $DEBS) \
  ${WASM:+"$std-$WASM"}

# These programs were built for a newer libc than this machine may have, so each
# is started by the dynamic loader that came with them. What they build for this
# machine itself (build scripts, procedural macros) is linked by its own gcc.
U=$DIR/rust/usr
mkdir -p "$U/real"
for b in rustc rustdoc; do
  mv "$U/bin/$b" "$U/real/$b"
  cat >"$U/bin/$b" <<EOF
#!/bin/sh
exec "$U/lib64/ld-linux-x86-64.so.2" --library-path "$U/lib/x86_64-linux-gnu" --argv0 "$U/bin/$b" "$U/real/$b" "\$@"
EOF
  chmod +x "$U/bin/$b"
done
"$U/bin/rustc" -vV >&2

# --- cross linker and libc ---------------------------------------------------
suite "$HOST_SUITE"
X=$DIR/cross
pk=
for t in $TARGETS; do
  target "$t"
  pk="$pk $(closure "$HOST_SUITE" "gcc-$gnu" "libc6-dev-$deb-cross" |
    grep -E "$gnu|-$deb-cross$|^(binutils-common|libbinutils|libctf|libgprofng)" |
    grep -Ev "^(cpp-|lib(hwasan|tsan|lsan|ubsan|gomp|itm|quadmath|stdc|cc1))" |
    tr '\n' ' ')"
done
unpack "$HOST_SUITE" "$X" $(printf '%s\n' $pk | sort -u)
for t in $TARGETS; do
  target "$t"
  cat >"$DIR/bin/$gnu-gcc" <<EOF
#!/bin/sh
LD_LIBRARY_PATH="$X/usr/lib/x86_64-linux-gnu" exec "$X/usr/bin/$gnu-gcc" --sysroot="$X" "\$@"
EOF
  for b in ar objdump; do # objdump: for tests/codegen/
    cat >"$DIR/bin/$gnu-$b" <<EOF
#!/bin/sh
LD_LIBRARY_PATH="$X/usr/lib/x86_64-linux-gnu" exec "$X/usr/bin/$gnu-$b" "\$@"
EOF
  done
  chmod +x "$DIR/bin/$gnu"-*
done

# --- QEMU --------------------------------------------------------------------
(mkdir -p "$DIR/debs/qemu" && cd "$DIR/debs/qemu" && in_suite "$FROM" apt-get -qq download qemu-user >&2)
names=./usr/bin/qemu-x86_64
for t in $TARGETS; do target "$t"; names="$names ./usr/bin/qemu-$qemu"; done
dpkg-deb --fsys-tarfile "$DIR"/debs/qemu/*.deb | tar -x -C "$DIR/bin" --strip-components=3 $names
for f in "$DIR"/debs/qemu/*.deb; do
  printf '%s %s %s\n' "$FROM" "$(dpkg-deb --showformat='${Package}:${Architecture} ${Version}' -W "$f")" \
    "$(sha256sum <"$f" | cut -d' ' -f1)" >>"$DIR/manifest"
done

# --- what no build needs -----------------------------------------------------
rm -rf "$DIR"/{rust,cross}/usr/share "$X"/usr/bin/*-lto-dump* "$X"/usr/bin/*-gcov* "$X"/usr/bin/*.gold \
  "$X"/usr/bin/*-dwp "$X"/usr/lib/gcc-cross/*/*/lto1 "$U"/lib/x86_64-linux-gnu/gconv "$DIR/rust/etc"
rm -rf "$DIR/apt" "$DIR/debs"

# --- the environment ---------------------------------------------------------
{
  echo "export RUSTC='$U/bin/rustc'"
  echo "export RUSTDOC='$U/bin/rustdoc'"
  for t in $TARGETS; do
    target "$t"
    up=$(echo "$triple" | tr 'a-z-' 'A-Z_')
    echo "export CARGO_TARGET_${up}_LINKER='$DIR/bin/$gnu-gcc'"
    echo "export CARGO_TARGET_${up}_RUNNER='$DIR/bin/qemu-$qemu -L $X/usr/$gnu'"
  done
  if [ -n "$WASM" ]; then # rust-lld comes with rustup's toolchains
    lld=$(find "$(rustc --print sysroot)" -name rust-lld | head -n 1)
    echo "export CARGO_TARGET_WASM32_WASIP1_LINKER='$lld'"
  fi
} >"$DIR/env.sh"
# --- does it work? -----------------------------------------------------------
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
echo 'fn main() { println!("{} {}-bit {}-endian", std::env::consts::ARCH, usize::BITS,
  if cfg!(target_endian = "big") { "big" } else { "little" }) }' >"$T/t.rs"
for t in $TARGETS; do
  target "$t"
  "$U/bin/rustc" --edition 2024 -O --target "$triple" -C linker="$DIR/bin/$gnu-gcc" -o "$T/t" "$T/t.rs"
  say "$t runs: $("$DIR/bin/qemu-$qemu" -L "$X/usr/$gnu" "$T/t")"
done

echo "$WANT" >"$DIR/complete"
