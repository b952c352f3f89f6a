#!/bin/sh
# The drill: proves that the file of backup.sh is a backup, by counting on with it, on a machine of its own.
#
#     deploy/drill.sh footfall.dump
#
# Restores the file into an empty database (FOOTFALL_POSTGRES_URL), starts a Footfall of its own with an empty Redis
# (FOOTFALL_REDIS_URL) and your settings (FOOTFALL_CONFIG), asks it for the total of each site and compares it with the
# database. FOOTFALL_LISTEN and FOOTFALL_OPS_LISTEN (127.0.0.1:18080 and :18081) must be free.
# Exit status 0: each site that is configured shows what the file holds.
set -eu
test "$#" -eq 1 || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(dirname "$0")
footfall=${FOOTFALL:-footfall}
unset FOOTFALL FOOTFALL_MIGRATE_URL FOOTFALL_MIGRATE_URL_FILE FOOTFALL_OPS_TOKEN FOOTFALL_OPS_TOKEN_FILE
folder=$(mktemp -d)
export FOOTFALL_DATA_DIR="$folder" FOOTFALL_LISTEN="${FOOTFALL_LISTEN:-127.0.0.1:18080}"
export FOOTFALL_OPS_LISTEN="${FOOTFALL_OPS_LISTEN:-127.0.0.1:18081}"
service=
trap 'test -z "$service" || { kill "$service"; wait "$service" || true; }; rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

"$here/restore.sh" "$1" "$FOOTFALL_POSTGRES_URL"
"$footfall" migrate
"$footfall" serve &
service=$!
ready=
for _ in $(seq 120); do
    kill -0 "$service" || { service=; echo 'Footfall does not start; its last lines say why.' >&2; exit 1; }
    ready=$(curl --silent "http://$FOOTFALL_OPS_LISTEN/readyz" || true)
    case $ready in *'"status":"ok"'* | *'"status": "ok"'*) break ;; esac
    sleep 0.5
done

case $FOOTFALL_POSTGRES_URL in
*sslmode=verify-*) export PGSSLROOTCERT="${PGSSLROOTCERT:-${FOOTFALL_CA_FILE:-/etc/ssl/certs/ca-certificates.crt}}" ;;
esac
status=0
psql --no-psqlrc --tuples-only --no-align --field-separator=' ' --dbname="$FOOTFALL_POSTGRES_URL" --output="$folder/sites" \
    --command="SELECT site, sum(visitors) + corrections, sum(views) + corrections, max(day) FROM footfall.report_day
        LEFT JOIN LATERAL (SELECT COALESCE(sum(amount), 0) AS corrections FROM footfall.adjustment AS entry
            WHERE entry.site = report_day.site) AS entries ON true
        GROUP BY site, corrections ORDER BY site"
while read -r site visitors views day; do
    answer=$(curl --silent "http://$FOOTFALL_LISTEN/counts?site=$site" || true)
    total=$(echo "$answer" | sed -n 's/.*"total": *\([0-9]*\).*/\1/p')
    case $total in
    "$visitors" | "$views") echo "ok    $site: total $total, last day $day" ;;
    '') case $answer in
        *unknown_site*) echo "warn  $site: is in the file and not in the settings" ;;
        *) echo "FAIL  $site: no total ($answer; $ready)"; status=1 ;;
        esac ;;
    *) echo "FAIL  $site: shows $total, the file holds $visitors visitors and $views views"; status=1 ;;
    esac
done < "$folder/sites"
test -s "$folder/sites" || { echo 'FAIL  the file holds no day of any site'; status=1; }
exit "$status"
