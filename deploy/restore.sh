#!/bin/sh
# Brings the file of backup.sh into a database without Footfall's tables, all of it or nothing:
#
#     deploy/restore.sh footfall.dump "postgresql://footfall_owner@postgres.example.vn/footfall?sslmode=verify-full"
#
# The roles of the file need not exist there: its tables belong to the role of this database, and sql/roles.sql, run
# again afterwards, gives the others their rights. Then footfall migrate, and footfall serve with an empty Redis.
set -eu
test "$#" -eq 2 || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
case $2 in
*sslmode=verify-*) export PGSSLROOTCERT="${PGSSLROOTCERT:-${FOOTFALL_CA_FILE:-/etc/ssl/certs/ca-certificates.crt}}" ;;
esac
exec pg_restore --single-transaction --exit-on-error --no-owner --no-privileges --dbname="$2" "$1"
