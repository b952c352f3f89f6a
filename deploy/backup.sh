#!/bin/sh
# Saves Footfall's part of PostgreSQL in a file, without the keys of the visitor hash:
#
#     deploy/backup.sh footfall.dump "postgresql://footfall_owner@postgres.example.vn/footfall?sslmode=verify-full"
#
# The database is that of the role that owns the tables, as a URL or as words ("host='/a folder' dbname=postgres"); every
# account can read it in the list of processes, so its password belongs in ~/.pgpass. The file is whole or not there.
set -eu
umask 077
test "$#" -eq 2 || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
file=$1 database=$2
# libpq looks for ~/.postgresql/root.crt; this is what Footfall itself trusts.
case $database in
*sslmode=verify-*) export PGSSLROOTCERT="${PGSSLROOTCERT:-${FOOTFALL_CA_FILE:-/etc/ssl/certs/ca-certificates.crt}}" ;;
esac

trap 'rm -f "$file.part"' EXIT
pg_dump --format=custom --schema=footfall --exclude-table-data=footfall.salt --file="$file.part" --dbname="$database"
# Reads the whole file again: what does not fit on a disk is found now and not at the restore.
pg_restore --file=/dev/null "$file.part"
mv "$file.part" "$file"
echo "$file holds $(pg_restore --list "$file" | grep -c ' TABLE DATA footfall ') tables."
