# Shared by the scripts beside it: a Python environment with vpipe in it, and Chromium and Node.js for the tests.
# Source it (it defines functions and $root); it runs nothing by itself and reads no standard input.
#
#   VPIPE_VENV   where the environment lives (default: .venv in the repository)
#   PYTHON       the interpreter to make it with (default: the newest suitable one on PATH)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VPIPE_VENV:-$root/.venv}

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Root on a Debian-like system can install what is missing; anyone else is told what to do.
can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

# apt_install PACKAGE...: install from the distribution, quietly; the log is shown when it fails.
apt_install() {
    local log
    log=$(mktemp)
    say "installing $* (apt-get)"
    if { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; } \
        </dev/null >"$log" 2>&1; then
        rm -f "$log"
    else
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
}

# find_python: print the path of a Python >= 3.11; nothing when there is none.
find_python() {
    local name path
    for name in ${PYTHON:-python3.13 python3.12 python3.11 python3.14 python3 python}; do
        path=$(command -v "$name" 2>/dev/null) || continue
        if "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1; then
            printf '%s\n' "$path"
            return 0
        fi
    done
}

# make_venv PYTHON: create $venv; Debian keeps ensurepip in a package of its own.
make_venv() {
    local python=$1 version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        if can_apt; then
            apt_install "python$version-venv" || apt_install python3-venv || true
        fi
        "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
            die "$python has no venv module; install it first (Debian, Ubuntu: apt-get install python3-venv)"
    fi
    say "creating $venv with Python $version ($python)"
    rm -rf "$venv"
    "$python" -m venv "$venv" </dev/null
}

# setup EXTRAS: make sure that $venv holds vpipe, editable, with these extras ("" or "test,dev").
# Does nothing when pyproject.toml has not changed since the last time.
setup() {
    local extras=$1 python key log
    if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
        python=$(find_python)
        if [ -z "$python" ] && [ -z "${PYTHON:-}" ] && can_apt; then
            apt_install python3 python3-venv || true
            python=$(find_python)
        fi
        [ -n "$python" ] || die "no Python 3.11 or newer found on PATH; install one, or name it: PYTHON=/path/to/python3.12 $0"
        make_venv "$python"
    fi
    key=$("$venv/bin/python" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read() + repr((sys.version, sys.argv[2])).encode()).hexdigest())' \
        "$root/pyproject.toml" "$root")
    # The full set contains the small one.
    for stamp in "$venv/.vpipe-$extras" "$venv/.vpipe-test,dev"; do
        if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then
            return 0
        fi
    done
    say "installing vpipe${extras:+ with $extras} into $venv (some 400 MB the first time, a minute or two)"
    log="$venv/install.log"
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
        --editable "$root${extras:+[$extras]}" </dev/null >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "pip could not install vpipe; its output is in $log"
    fi
    printf '%s\n' "$key" >"$venv/.vpipe-$extras"
}

# need_browser: make sure that a browser is there for the tests of the report; without one they are skipped, and say so.
need_browser() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null 2>&1; then
            return 0
        fi
    done
    if can_apt && apt_install chromium; then
        return 0
    fi
    say "note: no Chromium; the tests that open the report are skipped (Debian: apt-get install chromium)"
}

# need_node: make sure that Node.js is there for the tests of what runs in browsers but needs no page.
need_node() {
    if command -v node >/dev/null 2>&1 || { can_apt && apt_install nodejs; }; then
        return 0
    fi
    say "note: no Node.js; the tests of the feed's JavaScript decoder are skipped (Debian: apt-get install nodejs)"
}

# need_renderers: install the comment renderers of others that the feed's modules are tested with; see tests/renderers.
need_renderers() {
    local folder=$root/tests/renderers
    if [ -f "$folder/node_modules/.stamp" ] && [ "$folder/node_modules/.stamp" -nt "$folder/package.json" ]; then
        return 0
    fi
    if ! command -v npm >/dev/null 2>&1 && can_apt; then
        apt_install npm || true
    fi
    if command -v npm >/dev/null 2>&1 && npm install --prefix "$folder" --no-package-lock --ignore-scripts --no-audit \
        --no-fund --silent </dev/null >&2; then
        touch "$folder/node_modules/.stamp"
        return 0
    fi
    say "note: no comment renderers; their tests are skipped (they are installed by npm; Debian: apt-get install npm)"
}

# need_live_peers: make sure that a real RTMP server and an SRT program are there for the tests of live streams.
need_live_peers() {
    local missing=()
    { command -v nginx && [ -e /usr/lib/nginx/modules/ngx_rtmp_module.so ]; } >/dev/null 2>&1 ||
        missing+=(nginx libnginx-mod-rtmp)
    command -v srt-live-transmit >/dev/null 2>&1 || missing+=(srt-tools)
    if [ "${#missing[@]}" = 0 ] || { can_apt && apt_install "${missing[@]}"; }; then
        return 0
    fi
    say "note: no ${missing[*]}; tests of live streams are skipped (Debian: apt-get install ${missing[*]})"
}
