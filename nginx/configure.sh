#!/bin/sh
# Renders a complete nginx configuration directory: configure.sh TARGET_DIR
#
#   FLASK_UPSTREAMS  "host:port host:port ..."; one entry: reverse proxy, several: load balancer
#   UPSTREAM_REQUESTS  requests that may be under way to each of them, default 100; more where several
#                    replicas stand behind one address
#   EDGE_CACHE       on or off (default): nginx's own cache of the app's answers
#   RATE_LIMIT       requests per second that one client address may send, or off (default)
#   TRUSTED_PROXIES  "network network ..." of proxies in front whose word on clients counts; none by default
#   LOG_FORMAT       of the access log: text (default) or json
#   NGINX_LISTEN     [address:]port, default 8080
#   NGINX_STATUS_LISTEN  [address:]port of /stub_status, or off (default)
#
# nginx then runs as: nginx -p TARGET_DIR -c TARGET_DIR/nginx.conf
set -euf

fail() {
  printf '%s\n' "$1" >&2
  exit 1
}

# A whole number from 1 to the second argument, without leading zeros: $(( )) takes 010 for 8.
is_number() {
  case $1 in '' | 0* | *[!0-9]* | ????????*) return 1 ;; esac
  [ "$1" -le "$2" ]
}

is_port() {
  is_number "$1" 65535
}

# A port, or host:port
is_listen() {
  case $1 in
    *:*) is_endpoint "$1" ;;
    *) is_port "$1" ;;
  esac
}

# An IPv4 address or network; not all of them.
is_network() {
  printf '%s\n' "$1" | awk -F '[./]' '
    !/^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+(\/[0-9]+)?$/ { exit 1 }
    { exit !($1 <= 255 && $2 <= 255 && $3 <= 255 && $4 <= 255 && (NF == 4 || ($5 >= 1 && $5 <= 32))) }'
}

# host:port
is_endpoint() {
  case ${1%:*} in '' | "$1" | *[!A-Za-z0-9._-]*) return 1 ;; esac
  is_port "${1##*:}"
}

# The IPv4 address that /etc/hosts gives a name. ECS Service Connect lists an IPv6 address too, which
# a task without IPv6 cannot reach.
address_in_hosts() {
  awk -v name="$1" '
    { sub(/#.*/, "") }
    $1 ~ /^[0-9.]+$/ { for (i = 2; i <= NF; i++) if ($i == name) { print $1; exit } }' /etc/hosts
}

nameservers() {
  awk '$1 == "nameserver" && $2 !~ /%/ { print ($2 ~ /:/ ? "[" $2 "]" : $2) }' /etc/resolv.conf
}

# One server line: by address, or by a name that nginx asks DNS for again and again. Then: after how many
# failures in a row a replica is left out for 1 to 2 s (0: never), and how many requests may be under way.
server_line() {
  host=$1 port=$2 options="max_fails=$3 fail_timeout=1s max_conns=$4"
  case $host in
    *[!0-9.]*)
      address=$(address_in_hosts "$host")
      [ -n "$address" ] || options="resolve $options"
      ;;
    *) address=$host ;;
  esac
  printf 'server %s:%s %s;\n' "${address:-$host}" "$port" "$options"
}

# A replaced container has a new address at once, while Docker's DNS answers are valid for 600 s:
# ask every 1 to 2 s. The app listens on IPv4 only.
resolver_lines() {
  # shellcheck disable=SC2046 # one word per name server
  set -- $(nameservers)
  [ $# -gt 0 ] || fail "FLASK_UPSTREAMS is '$upstreams': /etc/resolv.conf has no nameserver to ask for names"
  printf 'resolver %s valid=1s ipv6=off;\nresolver_timeout 1s;\n' "$*"
}

[ $# -eq 1 ] || fail "usage: configure.sh TARGET_DIR"
target=$1
source=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
upstreams=${FLASK_UPSTREAMS:-}
requests=${UPSTREAM_REQUESTS:-100}
listen=${NGINX_LISTEN:-8080}
status_listen=${NGINX_STATUS_LISTEN:-off}
log_format=${LOG_FORMAT:-text}
proxies=${TRUSTED_PROXIES:-}

case $(printf %s "${EDGE_CACHE:-off}" | tr '[:upper:]' '[:lower:]') in
  on | true | yes | 1) edge_cache=on ;;
  off | false | no | 0) edge_cache=off ;;
  *) fail "EDGE_CACHE is '$EDGE_CACHE': expected on or off" ;;
esac

rate_limit=$(printf %s "${RATE_LIMIT:-off}" | tr '[:upper:]' '[:lower:]')
[ "$rate_limit" = off ] || is_number "$rate_limit" 1000000 ||
  fail "RATE_LIMIT is '$RATE_LIMIT': expected off or a whole number from 1 to 1000000"

for proxy in $proxies; do
  is_network "$proxy" ||
    fail "TRUSTED_PROXIES is '$proxies': expected IPv4 networks separated by spaces, e.g. 10.0.0.0/20, not '$proxy'"
done

case $log_format in
  text | json) ;;
  *) fail "LOG_FORMAT is '$log_format': expected one of text, json" ;;
esac

is_number "$requests" 4000 ||
  fail "UPSTREAM_REQUESTS is '$requests': expected a whole number from 1 to 4000"

is_listen "$listen" ||
  fail "NGINX_LISTEN is '$listen': expected a port from 1 to 65535, or address:port"
[ "$status_listen" = off ] || is_listen "$status_listen" ||
  fail "NGINX_STATUS_LISTEN is '$status_listen': expected off, a port from 1 to 65535, or address:port"

servers='' all_servers=''
count=0
for upstream in $upstreams; do
  is_endpoint "$upstream" ||
    fail "FLASK_UPSTREAMS is '$upstreams': expected host:port entries separated by spaces, not '$upstream'"
  host=${upstream%:*} port=${upstream##*:}
  servers="$servers$(server_line "$host" "$port" 3 "$requests")
"
  all_servers="$all_servers$(server_line "$host" "$port" 0 $((4 * requests)))
"
  count=$((count + 1))
done
[ "$count" -gt 0 ] || fail "FLASK_UPSTREAMS is '$upstreams': expected at least one host:port"
case $servers in *" resolve "*)
  servers="$(resolver_lines)
$servers" all_servers="$(resolver_lines)
$all_servers"
  ;;
esac

mkdir -p "$target" 2>/dev/null && [ -w "$target" ] || fail "$target: cannot write there"
for file in nginx upstream proxy real_ip headers errors error_pages; do
  cp "$source/$file.conf" "$target/"
done
cp "$source/edge_cache.$edge_cache.conf" "$target/edge_cache.conf"
cp "$source/log_format.$log_format.conf" "$target/log_format.conf"
if [ "$count" -eq 1 ]; then
  cp "$source/default.conf" "$target/default.conf"
else
  cp "$source/default.conf.alternative" "$target/default.conf"
fi
# A second's worth of requests may come at once; ten are a page with its files, and a few answers.
if [ "$rate_limit" = off ]; then
  : >"$target/rate_limit.conf"
else
  burst=$((rate_limit > 10 ? rate_limit : 10))
  under_way=$((burst < 65535 ? burst : 65535)) # the most that nginx counts
  sed "s/RATEr/${rate_limit}r/; s/BURST/$burst/; s/UNDERWAY/$under_way/" "$source/rate_limit.on.conf" \
    >"$target/rate_limit.conf"
fi
if [ "$status_listen" = off ]; then
  : >"$target/status.conf"
else
  sed "s/LISTEN/$status_listen/" "$source/status.on.conf" >"$target/status.conf"
fi
for proxy in $proxies; do printf 'set_real_ip_from %s;\n' "$proxy"; done >"$target/trusted_proxies.conf"
for proxy in $proxies; do printf '%s 1;\n' "$proxy"; done >"$target/trusted_networks.conf"
printf '%s' "$servers" >"$target/servers.conf"
printf '%s' "$all_servers" >"$target/all_servers.conf"
# reuseport: the kernel spreads 10,000 clients evenly over the workers, not to the one that wakes first.
printf 'listen %s reuseport backlog=4096;\n' "$listen" >"$target/listen.conf"
