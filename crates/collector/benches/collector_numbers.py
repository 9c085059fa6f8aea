"""The last day in DuckDB, counted exactly, for the bench collector_numbers: FILE DAY [STATEMENTS].

With a file of statements it makes the first file by them, else it counts, and says as JSON what that took and gave.
"""

import json
import sys
import time

import duckdb

SIZES = [0, 1, 2, 6, 11, 26, 51, 101, 251, 1001]
WORDS = ["version", "platform", "os", "arch"]
COUNTS = ["pve_nodes", "pbs_instances", "pmg_instances", "vms", "containers", "docker_hosts", "kubernetes_clusters",
          "active_alerts"]
FLAGS = ["ai_enabled", "relay_enabled", "sso_enabled", "multi_tenant", "paid_license", "has_api_tokens"]


def size_name(first, last):
    if last + 1 == len(SIZES):
        return f"{SIZES[first]} and more"
    return str(SIZES[first]) if SIZES[last + 1] == SIZES[first] + 1 else f"{SIZES[first]} to {SIZES[last + 1] - 1}"


def count(connection, day):
    columns = ", ".join(WORDS + COUNTS + FLAGS)
    connection.execute(
        f"""CREATE TEMP TABLE counted AS
        WITH last AS (
            SELECT DISTINCT ON (install_id) install_id, {columns} FROM pings
            WHERE received_at >= DATE '{day}' AND received_at < DATE '{day}' + 1
            ORDER BY install_id, received_at DESC
        )
        SELECT {columns} FROM last WHERE install_id IN (SELECT install_id FROM pings WHERE received_at < DATE '{day}')"""
    )
    numbers = {"ids": connection.execute("SELECT count(*) FROM counted").fetchone()[0]}
    for name in WORDS:
        numbers[name] = dict(connection.execute(f"SELECT {name}, count(*) FROM counted GROUP BY 1").fetchall())
    for name in FLAGS:
        cells = connection.execute(f"SELECT {name}, count(*) FROM counted GROUP BY 1").fetchall()
        numbers[name] = {"yes" if value else "no": ids for value, ids in cells}
    bins = " ".join(f"WHEN size < {next_one} THEN {at}" for at, next_one in enumerate(SIZES[1:]))
    for name in COUNTS:
        query = f"SELECT CASE {bins} ELSE {len(SIZES) - 1} END, count(*) FROM (SELECT {name} AS size FROM counted) GROUP BY 1"
        cells = dict(connection.execute(query).fetchall())
        numbers[name] = {
            size_name(first, last): sum(cells.get(at, 0) for at in range(first, last + 1))
            for first in range(len(SIZES)) for last in range(first, len(SIZES))
        }
    return numbers


def main():
    file, day, *statements = sys.argv[1:]
    before = time.process_time()
    connection = duckdb.connect(file, config={"threads": 1})
    if statements:
        connection.execute(open(statements[0]).read())
        return
    numbers = count(connection, day)
    cpu = time.process_time() - before
    memory = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1]
    print(json.dumps({"cpu": cpu, "memory": int(memory) * 1024, "numbers": numbers}))


if __name__ == "__main__":
    main()
