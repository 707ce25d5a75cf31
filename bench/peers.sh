#!/usr/bin/env bash
# Brings the peers that no package of this system has: Apache Artemis from Maven Central, and
# RabbitMQ 4.x out of a newer Debian, whose tree is laid out beside, not over, this system.
# What cannot be had is said, and nothing else fails for it. Usage: bench/peers.sh
set -euo pipefail

readonly ARTEMIS="${ARTEMIS_VERSION:-2.44.0}"
readonly SUITE="${DEBIAN_SUITE:-trixie}"
readonly PLACE="${HOTPATH_BENCH_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/hotpath-bench}"

say() { printf '%s\n' "$*"; }

fetch_artemis() {
    local name="apache-artemis-$ARTEMIS" archive
    [ -x "$PLACE/$name/bin/artemis" ] && { say "Artemis $ARTEMIS is there"; return; }
    for command in mvn unzip java; do
        command -v "$command" >/dev/null || { say "Artemis left out: $command is missing"; return; }
    done
    archive="$(mktemp -d)"
    mvn -q dependency:copy -Dartifact="org.apache.activemq:apache-artemis:$ARTEMIS:zip:bin" \
        -DoutputDirectory="$archive" || { say "Artemis left out: it cannot be fetched"; return; }
    unzip -q "$archive/$name-bin.zip" -d "$PLACE"
    rm -rf "$archive"
    say "Artemis $ARTEMIS is in $PLACE/$name"
}

# The first source of packages that apt has for Debian itself.
mirror() {
    apt-get indextargets --format '$(SITE)' 'Origin: Debian' 2>/dev/null | grep -m1 -E '/debian/?$'
}

lay_out_rabbitmq() {
    local tree="$PLACE/debian" from
    [ -x "$tree/usr/lib/rabbitmq/bin/rabbitmq-server" ] && { say "RabbitMQ 4.x is there"; return; }
    command -v debootstrap >/dev/null || { say "RabbitMQ 4.x left out: debootstrap is missing"; return; }
    [ "$(id -u)" -eq 0 ] || { say "RabbitMQ 4.x left out: laying out a tree needs root"; return; }
    from="$(mirror)" || { say "RabbitMQ 4.x left out: apt has no source for Debian"; return; }
    debootstrap --variant=minbase --include=rabbitmq-server "$SUITE" "$tree" "$from" \
        >"$PLACE/debootstrap.log" 2>&1 ||
        { say "RabbitMQ 4.x left out: see $PLACE/debootstrap.log"; rm -rf "$tree"; return; }
    say "RabbitMQ $(dpkg-query --admindir "$tree/var/lib/dpkg" -W -f '${Version}' rabbitmq-server)" \
        "is in $tree"
}

mkdir -p "$PLACE"
fetch_artemis
lay_out_rabbitmq
