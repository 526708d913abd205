#!/bin/bash
# Unpacks CPython 3.14 and 3.15 from Debian sid into target/interpreters/sid,
# without installing anything: apt works on lists, caches and a package status
# of its own, so that it neither reads nor changes what the machine has.
#
# usage: fetch-sid.sh [DIRECTORY]     (default: target/interpreters/sid)
#
# Works as root and as an ordinary user. Does nothing when the tree is there.
# The tree appears by one rename: an interrupted run leaves none.
set -euo pipefail

PACKAGES=(python3.14 python3.15)
# Raised whenever what is unpacked or added below changes: old trees are then made anew.
EDITION=1

say() { printf 'fetch-sid: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

workspace=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tree=${1:-${CARGO_TARGET_DIR:-$workspace/target}/interpreters/sid}
[[ $tree == /* ]] || tree=$PWD/$tree
stamp="edition $EDITION: ${PACKAGES[*]}"

is_complete() { [[ -f $tree/.complete && $(head -n 1 "$tree/.complete") == "$stamp" ]]; }
if is_complete; then
    say "$tree is there"
    exit 0
fi

for tool in apt-get dpkg dpkg-deb flock; do
    command -v "$tool" >/dev/null || die "needs '$tool': it runs on Debian and its children only"
done
architecture=$(dpkg --print-architecture)
[[ $architecture == amd64 ]] || die "made for amd64, this machine is $architecture"

mkdir -p "$(dirname "$tree")"
# Two runs at the same time (two checkouts' tests, say): the second one waits.
exec 9>"$tree.lock"
flock 9
if is_complete; then
    say "$tree is there"
    exit 0
fi

# --- where packages come from: the first URI of the machine's own Debian source -------

# Prints "URI<TAB>SIGNED-BY" of the first entry in deb822 form ...
from_deb822() {
    awk '
        function flush() { if (uri != "" && !done) { print uri "\t" key; done = 1 } uri = ""; key = "" }
        /^[[:space:]]*$/          { flush(); next }
        /^#/                      { next }
        tolower($1) == "uris:"      { uri = $2 }
        tolower($1) == "signed-by:" { key = $2 }
        END                       { flush() }
    ' "$1"
}
# ... and in the form of one line: deb [options] URI suite component...
from_one_line() {
    awk '
        $1 == "deb" && !done {
            key = ""; i = 2
            if ($i ~ /^\[/) {
                while (i <= NF) {
                    option = $i; gsub(/[][]/, "", option)
                    if (option ~ /^signed-by=/) { key = substr(option, 11) }
                    if ($i ~ /\]$/) { break }
                    i++
                }
                i++
            }
            if ($i != "") { print $i "\t" key; done = 1 }
        }
    ' "$1"
}

source_line=
for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [[ -r $file ]] || continue
    case $file in
        *.sources) source_line=$(from_deb822 "$file") ;;
        *) source_line=$(from_one_line "$file") ;;
    esac
    [[ -z $source_line ]] || { say "packages come from where $file says"; break; }
done
[[ -n $source_line ]] || die "no Debian source in /etc/apt/sources.list.d/debian.sources or /etc/apt/sources.list"
uri=${source_line%%$'\t'*}
keyring=${source_line#*$'\t'}
[[ -n $keyring ]] || keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# Without a keyring apt refuses the suite. That is left so: unsigned packages are not
# worth a test run.
[[ -r $keyring ]] || die "no keyring $keyring; remedy: apt-get install debian-archive-keyring"

# --- a private apt ---------------------------------------------------------------------

work=$(mktemp -d "$tree.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,state,etc/apt.conf.d,etc/preferences.d,etc/trusted.gpg.d,tree}
: >"$work/status"
: >"$work/etc/empty.conf"
printf 'Types: deb\nURIs: %s\nSuites: sid\nComponents: main\nArchitectures: %s\nSigned-By: %s\n' \
    "$uri" "$architecture" "$keyring" >"$work/etc/sid.sources"

apt=(
    -o "Dir::Etc=$work/etc"
    -o "Dir::Etc::sourcelist=$work/etc/sid.sources"
    -o "Dir::Etc::sourceparts=$work/etc/none"
    -o "Dir::State=$work/state"
    -o "Dir::State::Lists=$work/lists"
    -o "Dir::State::status=$work/status"
    -o "Dir::State::extended_states=$work/state/extended_states"
    -o "Dir::Cache=$work/cache"
    -o "Dir::Cache::Archives=$work/cache/archives"
    # The machine's lists are root's; the sandbox user of apt could not write into ours.
    -o "APT::Sandbox::User="
    -o "APT::Architecture=$architecture"
    -o "APT::Architectures::=$architecture"
    -o "APT::Install-Recommends=false"
    -o "APT::Get::List-Cleanup=false"
    -o "Acquire::Languages=none"
    -o "Acquire::Retries=3"
    -o "Debug::NoLocking=true"
)

say "reading sid's package lists"
# Any warning of `update` (a failed fetch, a signature) ends the run: apt itself
# goes on with old lists, and there are none here.
if ! apt-get "${apt[@]}" -qq -o APT::Update::Error-Mode=any update >"$work/update.log" 2>&1; then
    cat "$work/update.log" >&2
    if grep -qE 'NO_PUBKEY|not signed|EXPKEYSIG' "$work/update.log"; then
        die "sid is signed by a key that $keyring does not hold; remedy: apt-get update && apt-get install debian-archive-keyring"
    fi
    die "could not read sid's package lists"
fi

say "downloading ${PACKAGES[*]} and what they need"
if ! apt-get "${apt[@]}" -qq -y --download-only --no-install-recommends install "${PACKAGES[@]}" \
        </dev/null >"$work/install.log" 2>&1; then
    cat "$work/install.log" >&2
    die "could not download ${PACKAGES[*]}"
fi

# --- the tree --------------------------------------------------------------------------

new=$work/tree
# Sid's packages put everything below /usr; programs look for their loader in /lib64.
mkdir -p "$new"/usr/{bin,lib,lib64,sbin}
for name in bin lib lib64 sbin; do
    ln -s "usr/$name" "$new/$name"
done

shopt -s nullglob
packages=("$work"/cache/archives/*.deb)
((${#packages[@]} > 0)) || die "apt downloaded nothing"
say "unpacking ${#packages[@]} packages"
for package in "${packages[@]}"; do
    dpkg-deb -x "$package" "$new"
done
for name in bin lib lib64 sbin; do
    [[ -L $new/$name ]] || die "a package replaced the link /$name: sid is no longer laid out as expected"
done

# A place to mount /proc on, and what a program in a chroot expects to find.
mkdir -p "$new"/{proc,sys,dev,run,onlooker-tests}
mkdir -p -m 1777 "$new/tmp"
# Only root may make device files. As another user the tree has a plain empty file for
# /dev/null, which takes what programs write into it.
device() { mknod -m 666 "$new/dev/$1" c 1 "$2" 2>/dev/null; }
device null 3 || : >"$new/dev/null"
device zero 5 || true
device random 8 || true
device urandom 9 || true

loader=$new/lib64/ld-linux-x86-64.so.2
libraries=$new/usr/lib/x86_64-linux-gnu
for package in "${PACKAGES[@]}"; do
    answer=$("$loader" --library-path "$libraries" "$new/usr/bin/$package" -I -S -c \
        'import sys; print("%d.%d.%d" % sys.version_info[:3])' </dev/null) ||
        die "$package does not start"
    say "$package is $answer"
done

# The state that the tests see does not depend on which of them ran first: every module
# is compiled now, where otherwise the first import would write it.
for package in "${PACKAGES[@]}"; do
    "$loader" --library-path "$libraries" "$new/usr/bin/$package" -m compileall -q \
        -x '(/test/|/idlelib/|lib2to3|bad_coding|badsyntax)' \
        -s "$new" -p / "$new/usr/lib/$package" </dev/null >"$work/compile.log" 2>&1 ||
        say "some modules of $package could not be compiled (harmless)"
done

printf '%s\n' "$stamp" >"$new/.complete"
for package in "${packages[@]}"; do
    basename "$package" .deb
done >>"$new/.complete"

chmod 755 "$new"
[[ ! -e $tree ]] || mv "$tree" "$work/old"
mv "$new" "$tree"
say "$tree is ready ($(du -sh "$tree" | cut -f 1))"
