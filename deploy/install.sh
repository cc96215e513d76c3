#!/bin/sh
# Installs roles of an inference federation on a server with systemd, or removes them.
#
#   sudo deploy/install.sh ROLE...              install or update control-plane, router, edge-agent
#   sudo deploy/install.sh --uninstall ROLE...  stop and remove; state, settings and users stay
#
#   --dry-run        say what would be done, change nothing
#   --purge          with --uninstall: remove state, settings and users too
#   --prefix DIR     where the software goes (/opt/inference-federation)
#   --source WHAT    what pip installs: this checkout, a wheel, or a name from an index
#   --extras A,B     further extras: bucket, amd
#   --destdir DIR    write the files below DIR for a package; no user, no pip, no systemctl
#   --no-start       neither enable nor start nor restart anything
#
# It may be run again at any time: what is as it should be is left alone, settings that you changed
# are kept, a role is restarted only if something of it changed.
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
prefix=/opt/inference-federation
source=$(dirname "$here")
extras=''
destdir=''
dry=false
purge=false
start=true
action=install
roles=''
python=${PYTHON:-python3}

fail() {
    echo "install.sh: $1" >&2
    exit 2
}

usage() {
    sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//p;}' "$0"
}

value() { # value FLAG COUNT: refuse a flag without its value
    [ "$2" -ge 2 ] || fail "$1 needs a value."
}

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --dry-run) dry=true ;;
        --purge) purge=true ;;
        --no-start) start=false ;;
        --uninstall) action=uninstall ;;
        --prefix) value "$1" $#; prefix=$2; shift ;;
        --source) value "$1" $#; source=$2; shift ;;
        --extras) value "$1" $#; extras=$2; shift ;;
        --destdir) value "$1" $#; destdir=$2; shift ;;
        control-plane | router | edge-agent) roles="$roles $1" ;;
        *) fail "$1 is no role and no option: use control-plane, router, edge-agent, or --help." ;;
    esac
    shift
done
[ -n "$roles" ] || fail 'which role? Use control-plane, router or edge-agent, or --help.'
if $purge && [ "$action" = install ]; then fail '--purge belongs to --uninstall.'; fi
case $prefix in
    /*[!A-Za-z0-9._/-]*) fail "--prefix $prefix: use letters, digits and . _ - / only." ;;
    /?*) ;;
    *) fail "--prefix $prefix: use an absolute path." ;;
esac
if [ -z "$destdir" ] && ! $dry && [ "$(id -u)" != 0 ]; then
    fail 'this needs root (or --dry-run, or --destdir).'
fi

case $(readlink -f "$(command -v "$python" || true)") in
    '') no_python="there is no $python" ;;
    /root/* | /home/*) no_python="$python lies in a home directory, which services may not look into" ;;
    *) no_python='' ;;
esac
if [ -n "$no_python" ] && [ "$action" = install ] && [ -z "$destdir" ]; then
    $dry || fail "$no_python. Name another: PYTHON=/usr/bin/python3 (3.11 or newer)."
    echo "install.sh: $no_python." >&2
fi

units=$destdir/etc/systemd/system
settings=$destdir/etc/inference-federation
state=$destdir/var/lib/inference-federation
changed=''

told() { echo "$*"; }

run() { # run COMMAND...: print it, and do it unless this is a dry run
    echo "+ $*"
    $dry || "$@"
}

on_system() { # run it only on the machine itself, not below --destdir
    if [ -n "$destdir" ]; then told "(--destdir: not done) $*"; else run "$@"; fi
}

has_systemd() { [ -z "$destdir" ] && [ -d /run/systemd/system ]; }

put() { # put FILE TARGET MODE: write what stdin would have, if it differs
    if [ -f "$2" ] && cmp -s "$1" "$2"; then
        told "$2: as it should be"
        return 1
    fi
    echo "+ write $2"
    if ! $dry; then
        mkdir -p "$(dirname "$2")"
        cp "$1" "$2.new"
        chmod "$3" "$2.new"
        mv "$2.new" "$2"
    fi
}

owned() { # owned FILE ROLE: of root, readable by the role's group
    if [ -z "$destdir" ] && [ -e "$1" ]; then run chgrp "fed-$2" "$1"; fi
}

add_user() {
    if [ -z "$destdir" ] && id "fed-$1" >/dev/null 2>&1; then
        told "user fed-$1: there"
        return
    fi
    on_system useradd --system --user-group --no-create-home \
        --home-dir /var/lib/inference-federation --shell /usr/sbin/nologin "fed-$1"
}

role_extras() {
    case $1 in
        control-plane) echo control-plane,bucket ;;
        *) echo "$1" ;;
    esac
}

installed_roles() { # those whose units are there, and those asked for
    for role in control-plane router edge-agent; do
        case " $roles " in *" $role "*) echo "$role"; continue ;; esac
        if [ -f "$units/fed-$role.service" ]; then echo "$role"; fi
    done
}

install_software() {
    wanted=''
    for role in $(installed_roles); do wanted="$wanted,$(role_extras "$role")"; done
    [ -z "$extras" ] || wanted="$wanted,$extras"
    wanted=${wanted#,}
    case $source in
        *.whl) what="inference-federation[$wanted] @ file://$(cd "$(dirname "$source")" && pwd)/$(basename "$source")" ;;
        *) what="${source}[$wanted]" ;;
    esac
    if [ -n "$destdir" ] || [ ! -x "$prefix/venv/bin/python" ]; then
        on_system "$python" -m venv "$prefix/venv"
    fi
    before=$(cat "$prefix/venv/.installed" 2>/dev/null || true)
    if [ -f "$source/constraints.txt" ]; then
        set -- -c "$source/constraints.txt" "$what"
    elif [ -f "$(dirname "$here")/constraints.txt" ]; then
        set -- -c "$(dirname "$here")/constraints.txt" "$what"
    else
        set -- "$what"
    fi
    on_system "$prefix/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    # The version alone does not change with each commit of a checkout: its own files tell.
    [ ! -d "$source" ] || on_system "$prefix/venv/bin/python" -m pip install --quiet \
        --disable-pip-version-check --no-deps --force-reinstall "$source"
    if [ -z "$destdir" ] && ! $dry; then
        site=$("$prefix/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        (
            "$prefix/venv/bin/python" -m pip freeze --all
            cd "$site" && find federation router edge_agent -name '*.py' -exec cksum {} + | sort
        ) | cksum >"$prefix/venv/.installed"
        [ "$before" = "$(cat "$prefix/venv/.installed")" ] || changed="$(installed_roles | tr '\n' ' ')"
    fi
}

install_role() {
    role=$1
    add_user "$role"
    made=$(mktemp)
    sed "s|@PREFIX@|$prefix|g" "$here/systemd/fed-$role.service" >"$made"
    if put "$made" "$units/fed-$role.service" 644; then changed="$changed $role"; fi
    rm -f "$made"
    if [ -f "$settings/$role.env" ]; then
        told "$settings/$role.env: kept"
    else
        put "$here/systemd/$role.env" "$settings/$role.env" 640
        owned "$settings/$role.env" "$role"
    fi
    owned "$settings/$role.token" "$role"
}

start_role() {
    role=$1
    if ! $start || ! has_systemd; then return 0; fi
    run systemctl enable --quiet "fed-$role.service"
    if ! systemctl is-active --quiet "fed-$role.service"; then
        told "fed-$role is not running: edit /etc/inference-federation/$role.env, then"
        told "    systemctl restart fed-$role && journalctl -fu fed-$role"
        return 0
    fi
    case " $changed " in *" $role "*) run systemctl restart "fed-$role.service" ;; esac
}

remove() { # remove PATH...: those that exist
    for path in "$@"; do
        if [ -e "$path" ]; then run rm -rf "$path"; fi
    done
}

uninstall_role() {
    role=$1
    if has_systemd && [ -f "$units/fed-$role.service" ]; then
        run systemctl disable --quiet --now "fed-$role.service"
    fi
    remove "$units/fed-$role.service"
    if $purge; then
        remove "$settings/$role.env" "$settings/$role.token" "$state/$role"
        if [ -z "$destdir" ] && id "fed-$role" >/dev/null 2>&1; then run userdel "fed-$role"; fi
    else
        told "kept: $settings/$role.env, $state/$role (--purge removes them)"
    fi
}

if [ "$action" = uninstall ]; then
    for role in $roles; do uninstall_role "$role"; done
    asked=$roles
    roles=''
    left=$(installed_roles)
    for role in $asked; do left=$(echo "$left" | grep -vx -- "$role" || true); done
    if [ -z "$left" ]; then remove "$destdir$prefix/venv"; fi
else
    install_software
    for role in $roles; do install_role "$role"; done
fi
if has_systemd; then run systemctl daemon-reload; fi
if [ "$action" = install ]; then
    for role in $(installed_roles); do start_role "$role"; done
fi
