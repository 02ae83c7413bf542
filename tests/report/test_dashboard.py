"""The dashboard over real sockets on loopback."""

import http.client
import json
import os
import re
import subprocess
import threading
import time
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest

from raymcu.errors import ConfigError
from raymcu.report.assets import asset
from raymcu.report.dashboard import is_loopback, serve
from raymcu.report.watch import Parts, Watch
from raymcu.store import tables


@contextmanager
def serving(run):
    server = serve(run.url, port=0)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server(half_run):
    with serving(half_run) as server:
        yield server


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_status_json_has_stages_failures_and_curves(server):
    answer, body = ask(server, "/status.json")
    found = json.loads(body)
    assert answer.status == 200
    assert found["name"] == "demo study"
    assert found["stages"][2]["done"] == 68
    assert len(found["failures"]) == 2
    curve = found["curves"][0]
    assert (curve["done"], curve["total"], curve["pair"]) == (7, 7, "grad_diff · seed0 ↔ seed1")
    assert curve["retain"][0] == [0.0, 0.61]
    assert found["curves"][-1]["forget"] == []


def test_an_unchanged_status_is_not_sent_again(server):
    tag = ask(server, "/status.json")[0].getheader("ETag")
    answer, body = ask(server, "/status.json", **{"If-None-Match": tag})
    assert (answer.status, body) == (304, b"")


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [("/", "text/html", b"dashboard.js"), ("/dashboard.js", "text/javascript", b"status.json"),
     ("/dashboard_search.js", "text/javascript", b"showSearch"),
     ("/dashboard.css", "text/css", b"--paper")],
)  # fmt: skip
def test_the_page_and_its_files(server, path, kind, text):
    answer, body = ask(server, path)
    assert answer.status == 200
    assert answer.getheader("Content-Type").startswith(kind)
    assert "script-src 'self'" in answer.getheader("Content-Security-Policy")
    assert text in body


def test_every_element_that_the_scripts_ask_for_is_on_the_page():
    scripts = asset("dashboard.js") + asset("dashboard_search.js")
    asked = set(re.findall(r'byId\("([^"]+)"\)', scripts))
    there = set(re.findall(r'\bid="([^"]+)"', asset("dashboard.html")))
    assert asked == there
    files = re.findall(r'(?:src|href)="(/dashboard[^"]*)"', asset("dashboard.html"))
    assert files == ["/dashboard.css", "/dashboard_search.js", "/dashboard.js"]


def test_every_key_that_the_scripts_read_is_in_the_json(search_run):
    found = Watch(search_run).snapshot()
    scripts = asset("dashboard.js") + asset("dashboard_search.js")
    search, (first, *_) = found["search"], found["search"]["trials"]
    for name, value in (("status", found), ("search", search), ("t", first),
                        ("count", found["trials"][0])):  # fmt: skip
        read = set(re.findall(rf"(?<![\w./]){name}\.(\w+)", scripts))
        assert read <= set(value), name


def test_the_report_is_served_once_it_is_there(server, half_run):
    assert ask(server, "/report")[0].status == 404
    half_run.write_bytes("report/index.html", b"<!doctype html>here")
    answer, body = ask(server, "/report")
    assert (answer.status, body) == (200, b"<!doctype html>here")
    assert "script-src 'sha256-" in answer.getheader("Content-Security-Policy")


def test_the_files_of_a_report_are_served_and_no_others(server, half_run):
    half_run.write_bytes("report/tables/findings.csv", b"setting\n")
    half_run.write_bytes("report/figures/barriers.pdf", b"%PDF-")
    answer, body = ask(server, "/tables/findings.csv")
    assert (answer.status, body) == (200, b"setting\n")
    assert answer.getheader("Content-Type") == "text/csv; charset=utf-8"
    answer, body = ask(server, "/figures/barriers.pdf")
    assert (answer.getheader("Content-Type"), body) == ("application/pdf", b"%PDF-")
    for path in ("/tables/none.csv", "/tables/../index.html", "/figures/findings.csv", "/tables/"):
        assert ask(server, path)[0].status == 404


def test_status_json_has_losses_of_trainings_that_are_done(half_run):
    watch = Watch(half_run)
    assert watch.snapshot()["trainings"] == []  # these checkpoints tell nothing
    recipe = next(r for r in half_run.plan["recipes"] if r["label"] == "npo/seed1")
    rows = [{"step": n + 1, "loss": 10.0 - n} for n in range(8)]
    half_run.checkpoints.folder.remove(recipe["id"])
    assert watch.snapshot()["trainings"] == []
    with half_run.checkpoints.writing(recipe["id"]) as folder:
        pq.write_table(tables.from_rows("training", rows), folder / "training.parquet")
    (found,) = Watch(half_run).snapshot()["trainings"]
    assert (found["panel"], found["label"]) == ("npo", "npo/seed1")
    assert found["loss"] == [[n + 1.0, 10.0 - n] for n in range(8)]


def test_what_runs_is_told_with_its_share_and_loss(half_run):
    beat = {"stage": "train", "done": 1, "total": 4, "running": ["npo/seed0"],
            "details": [[0.4, 1.23]], "seconds_left": 60.0, "started": 0.0,
            "updated": time.time()}  # fmt: skip
    half_run.write_json("progress.json", beat)
    driver = Watch(half_run).snapshot()["driver"]
    assert [list(one) for one in driver["details"]] == [[0.4, 1.23]]
    del beat["details"]  # of a driver of before they were told
    half_run.write_json("progress.json", beat)
    assert Watch(half_run).snapshot()["driver"]["details"] == ()


@pytest.mark.parametrize(
    "path", ["/plan.json", "/../plan.json", "/report/../plan.json", "/%2e%2e/plan.json", "//x"]
)
def test_no_other_path_leads_anywhere(server, path):
    assert ask(server, path)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_get(server, method):
    answer, _ = ask(server, "/status.json", method)
    assert (answer.status, answer.getheader("Allow")) == (405, "GET")


def test_a_foreign_host_name_is_refused(server):
    assert ask(server, "/status.json", Host="evil.example:80")[0].status == 421
    assert ask(server, "/status.json", Host="localhost:1")[0].status == 200
    assert ask(server, "/status.json", Host="[::1]:1")[0].status == 200


def test_a_damaged_folder_is_told_and_the_server_lives(server, half_run):
    half_run.write_bytes("plan.json", b"{")
    answer, body = ask(server, "/status.json")
    assert answer.status == 503
    assert "is not JSON" in json.loads(body)["error"]


def test_a_new_score_appears_and_a_changed_one_is_read_again(half_run):
    watch = Watch(half_run)
    missing = half_run.plan["curve_points"][-2]["point_id"]
    known = half_run.parts("scores")[0]
    assert watch.snapshot()["curves"][-1]["done"] == 0
    row = {"point_id": missing, "metric": "retain_loss", "value": 0.5, "num_examples": 1}
    half_run.write_part("scores", missing, tables.from_rows("scores", [row]))
    part = half_run.read_part("scores", known)
    half_run.write_part("scores", known, part.slice(0, 0))
    snapshot = watch.snapshot()
    assert snapshot["curves"][-1]["done"] == 1
    assert known not in watch.scores()


def test_a_part_is_read_once_until_it_changes(search_run):
    read = []
    parts = Parts(search_run, "trials", lambda table: read.append(table) or table["number"][0])
    assert len(parts.values()) == len(parts.values()) == len(read) == 40
    part = search_run.parts("trials")[0]
    search_run.write_part("trials", part, search_run.read_part("trials", part))
    assert (len(parts.values()), len(read)) == (40, 41)
    search_run.remove_part("trials", part)
    assert (len(parts.values()), len(read)) == (39, 41)


def test_status_json_has_the_trials_of_a_search(search_run):
    found = json.loads(Watch(search_run).body())
    search = found["search"]
    assert [each["label"] for each in search["objectives"]] == [
        "model utility ↑",
        "forget quality log10 ↑",
    ]
    assert search["parameters"] == ["method", "learning_rate", "beta", "epochs"]
    first = search["trials"][1]
    assert (first["study"], first["number"], first["kind"]) == (
        "forget_size=forget01", 1, "feasible",
    )  # fmt: skip
    assert first["parameters"]["method"] == "npo"
    assert len(first["objectives"]) == 2
    steps = search["studies"][0]["histories"][0]
    assert [number for number, *_ in steps] == list(range(20))
    assert [kind for _, _, kind, _ in steps][:5] == [
        "feasible", "feasible", "feasible", "infeasible", "failed",
    ]  # fmt: skip
    bests = [best for *_, best in steps]
    assert bests == sorted(bests)
    assert any(trial["is_best"] for trial in search["trials"])
    assert found["trials"][1]["running"] == 1


def test_status_json_of_a_run_that_is_no_search(half_run):
    assert Watch(half_run).snapshot()["search"] is None


def test_status_json_has_walks_as_their_points_arrive(half_run):
    plan = half_run.plan
    done, missing = half_run.parts("scores")[0], plan["points"][-1]["id"]
    plan["walks"] = [{"id": "w", "family": "mixing", "forget_size": "forget01",
                      "first": "original", "second": "npo/seed0", "second_id": "x"}]  # fmt: skip
    plan["walk_points"] = [
        {"curve_id": "w", "t": t, "point_id": point, "label": f"alpha={t:g}"}
        for t, point in ((1.0, missing), (0.5, done))
    ]
    half_run.write_json("plan.json", plan)
    (walk,) = Watch(half_run).snapshot()["walk_lines"]
    assert (walk["done"], walk["total"], walk["model"]) == (1, 2, "npo/seed0")
    assert walk["steps"] == [[0.5, "alpha=0.5"], [1.0, "alpha=1"]]
    assert [t for t, _ in walk["retain"]] == [0.5]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_others_are_kept_out_unless_told(half_run, host):
    with pytest.raises(ConfigError, match="not loopback"):
        serve(half_run.url, host=host, port=0)


def test_others_may_look_when_told(half_run):
    server = serve(half_run.url, host="0.0.0.0", port=0, allow_remote=True)
    assert server.allow_remote
    server.server_close()


def test_a_taken_port_is_a_clear_error(server, half_run):
    with pytest.raises(ConfigError, match=r"is in use.*--port"):
        serve(half_run.url, port=server.server_address[1])
    with pytest.raises(ConfigError, match=r"0 .* to 65535"):
        serve(half_run.url, port=70000)


def test_a_folder_without_a_run_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="no run is there"):
        serve(str(tmp_path), port=0)


def test_loopback_names():
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.8.8.8", "::1"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "localhost.evil.example", "10.0.0.1"]))


@pytest.mark.slow
def test_the_page_shows_the_trials_in_a_browser(search_run):
    """Needs Chromium, whose path RAYMCU_CHROMIUM may give; no CI has it."""
    chromium = os.environ.get("RAYMCU_CHROMIUM", "chromium")
    with serving(search_run) as server:
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu",
            "--virtual-time-budget=5000", "--enable-logging=stderr", "--dump-dom", server.url,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    for text in ("forget_size=forget05", "learning_rate", "npo · seed0 ↔ seed1", "16 ★"):
        assert text in done.stdout
    assert done.stdout.count('<circle class="trial') == 2 * 2 * 16
    assert "&lt;script&gt;alert(1)" in done.stdout
    assert "CONSOLE" not in done.stderr
