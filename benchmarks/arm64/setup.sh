#!/usr/bin/env bash
# Makes ROOT: an arm64 Debian userland with Python, the runtimes' arm64 wheels, and the plugin that
# counts instructions. `python -m benchmarks.instructions ROOT ...` runs artifacts in it. Nothing is
# installed on the host and no root rights are needed. See docs/arm64.md.
set -euo pipefail

usage() {
	cat <<'TEXT'
usage: setup.sh ROOT [REQUIREMENT...]
       setup.sh --system ROOT

REQUIREMENT is what pip takes, e.g. onnxruntime==1.19.2; numpy, ai-edge-litert and onnxruntime by
default. Run again with others, it replaces those that are in ROOT.
--system makes the Debian userland alone: what `python -m benchmarks.device_proof` needs.
QEMU (default: qemu-aarch64), PYTHON (default: python3) and CC (default: gcc) name the programs.
TEXT
}

fail() {
	echo "setup.sh: $*" >&2
	exit 1
}

case ${1:-} in
-h | --help) usage && exit 0 ;;
"") usage >&2 && exit 2 ;;
esac

system=
if [ "$1" = --system ]; then
	[ $# = 2 ] || { usage >&2 && exit 2; }
	system=yes
	shift
fi

here=$(cd "$(dirname "$0")" && pwd)
qemu=${QEMU:-qemu-aarch64} python=${PYTHON:-python3} cc=${CC:-gcc}
mkdir -p "$1"
root=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- numpy ai-edge-litert onnxruntime

# Everything that can be refused is refused before anything is downloaded.
programs=("$qemu" apt-get dpkg-deb)
[ -n "$system" ] || programs+=("$cc" "$python")
for program in "${programs[@]}"; do
	command -v "$program" >/dev/null ||
		fail "$program was not found. On Debian: sudo apt-get install qemu-user gcc libc6-dev python3-pip"
done

prepare_system() {
	local options package
	# A package database of its own, so that the host's stays as it is; nothing is installed in it
	# either, so that apt downloads all that Python needs.
	apt=$(mktemp -d)
	trap 'rm -rf "$apt"' EXIT
	mkdir -p "$apt/lists/partial" "$apt/archives/partial"
	: >"$apt/status"
	options=(
		-qq -y
		-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Install-Recommends=false
		-o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=true
		-o Acquire::Retries=2 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20
		-o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status"
		-o Dir::Cache="$apt" -o Dir::Cache::Archives="$apt/archives"
	)
	apt-get "${options[@]}" -o APT::Update::Error-Mode=any update
	# python3-venv for its wheel of pip.
	apt-get "${options[@]}" --download-only install python3 python3-venv libstdc++6 >/dev/null
	for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
	# Debian 12 keeps the loader in /lib; where packages hold /usr/lib alone, /lib is a link to it.
	[ -e "$root/lib" ] || ln -s usr/lib "$root/lib"
	touch "$root/.system"
}
prepare_counting() {
	"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip. On Debian: sudo apt-get install python3-pip"
	# A statically linked QEMU, which is what Debian 13 has, cannot load plugins.
	"$qemu" --help | grep -q -- '^-plugin' ||
		fail "$qemu was built without plugins, as in Debian 13. Use Debian 12 (a container will do), or name another with QEMU=PATH."

	local version major minor api
	# The plugin interface changed in 9.0 and 9.1; QEMU refuses a plugin that says another version.
	version=$("$qemu" --version | sed -n '1s/.* version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
	read -r major minor <<<"$version"
	api=1
	if [ "$major" -ge 9 ]; then api=2; fi
	if [ "$major" -gt 9 ] || { [ "$major" -eq 9 ] && [ "$minor" -ge 1 ]; }; then api=3; fi
	"$cc" -std=c11 -O2 -Wall -Wextra -Werror -shared -fPIC -DPLUGIN_API="$api" -o "$root/count.so" "$here/count.c"
}
[ -n "$system" ] || prepare_counting
# The file comes last, so that a root that is only half there is made anew.
[ -e "$root/.system" ] || prepare_system
if [ -n "$system" ]; then
	echo "ready: $(basename "$(readlink "$root/usr/bin/python3")")"
	exit
fi

guest=$(basename "$(readlink "$root/usr/bin/python3")")
host="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
[ "$guest" = "$host" ] ||
	echo "setup.sh: pip of $host chooses what $guest needs; set PYTHON to a $guest if that fails" >&2
platforms=()
for glibc in $(seq 17 36); do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --upgrade \
	--target "$root/site" --only-binary=:all: --implementation cp \
	--python-version "${guest#python}" "${platforms[@]}" --platform manylinux2014_aarch64 "$@"

marks=$(mktemp)
"$qemu" -cpu cortex-a76 -L "$root" -plugin "$root/count.so,marks=$marks" "$root/usr/bin/python3" \
	-c 'import os; os.getsid(0); os.getsid(0)'
[ "$(wc -l <"$marks")" = 2 ] || fail "the plugin saw no marks: $root does not count."
rm "$marks"
echo "ready: $guest, $(ls "$root/site" | sed -n 's/\(.*\)-\(.*\)\.dist-info/\1 \2/p' | grep -E '^(numpy|ai_edge_litert|onnxruntime) ' | paste -sd, | sed 's/,/, /g')"
