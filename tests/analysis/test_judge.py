"""The judge: an endpoint on loopback that answers like OpenAI's API, well and badly."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from raymcu import cli
from raymcu.analysis import judge
from raymcu.analysis.judge import PROMPTS, Judge, JudgeError, grade, judge_run
from raymcu.analysis.stages import score_points
from raymcu.errors import ConfigError
from raymcu.store import tables
from raymcu.store.run_folder import RunFolder

KEY = "sk-secret"


class Endpoint(ThreadingHTTPServer):
    """Answers each request with ``reply(prompt)``: a text, or (status, body)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.asked = []
        self.reply = lambda prompt: "Fine.\nGrade: 4"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        said = self.server.reply(prompt)
        status, content = said if isinstance(said, tuple) else (200, _completion(said))
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", self.server.url)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments):
        pass


def _completion(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@pytest.fixture
def endpoint():
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(judge, "WAITS_S", (0.0, 0.0))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


SAID = {  # by point and probe: (answer, generation) of each example
    "one": {"forget": [("Mara Vell", "Mara Vell"), ("in 1961", "")], "retain": [("a", "b")]},
    "two": {"forget": [("Mara Vell", "Mara Vell"), ("in 1961", "in 1970")], "retain": [("a", "b")]},
}


@pytest.fixture
def run(tmp_path):
    """Return a run of two measured points and one that is not."""
    folder = RunFolder(str(tmp_path / "run"))
    points = [
        {"id": name, "label": f"npo/{name}", "role": "unlearner", "forget_size": "forget01"}
        for name in (*SAID, "unmeasured")
    ]
    space = {"measurement": {"generate": ["forget", "retain"]}, "extensions": []}
    folder.write_json("plan.json", {"points": points, "search_space": space})
    for point, probes in SAID.items():
        rows = [
            {
                "point_id": point,
                "probe": probe,
                "example": example,
                "example_key": f"{probe}{example}",
                "question_kind": "question",
                "answer_kind": kind,
                "answer_index": 0,
                "logprobs": [-1.0],
                "hits": [True],
                "stops": [True],
                "answer": answer,
                "generation": generation if kind == "answer" else None,
            }
            for probe, said in probes.items()
            for example, (answer, generation) in enumerate(said)
            for kind in ("answer", "paraphrased_answer")
        ]
        folder.write_part("measurements", point, tables.from_rows("measurements", rows))
    return folder


def judged(run, endpoint, *, probes=("forget", "retain"), max_examples=None, model="judge-1"):
    asked = Judge.at(endpoint.url, model, "OPENAI_API_KEY")
    return judge_run(run, asked, probes, max_examples, lambda ended, running: None)


def grades(run, point):
    rows = run.read_part("judgements", point).to_pylist()
    return {(row["probe"], row["example"], row["criterion"]): row["value"] for row in rows}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Grade: 4", 4.0),
        ("4", 4.0),
        (" 3.\n", 3.0),
        ("On the scale, Grade: 2 at first.\n**Grade:** 5", 5.0),
        ("<think>Grade: 1?</think> grade = 3/5", 3.0),
        ("Grade: 7", None),
        ("Grade: 45", None),
        ("Grade: 4.5", None),
        ("I cannot grade this.", None),
        ("It has 3 faults.", None),
        ("", None),
    ],
)
def test_the_last_grade_of_a_reply_counts(reply, expected):
    assert grade(reply) == expected


def test_every_distinct_pair_is_asked_once_of_each_criterion(run, endpoint):
    told = judged(run, endpoint)
    # naturalness sees generations: "Mara Vell", "", "in 1970", "b"; similarity the pairs.
    prompts = [body["messages"][0]["content"] for _, _, body in endpoint.asked]
    assert len(prompts) == len(set(prompts)) == 4 + 4
    assert (told.num_points, told.num_grades, told.num_failed) == (2, 12, 0)
    path, key, body = endpoint.asked[0]
    assert (path, key) == ("/v1/chat/completions", None)
    assert (body["model"], body["temperature"]) == ("judge-1", 0)
    assert set(body) == {"model", "messages", "temperature"}


def test_prompts_show_the_texts_and_say_which_way_grades_go(run, endpoint):
    judged(run, endpoint, probes=["retain"])
    prompts = sorted(body["messages"][0]["content"] for _, _, body in endpoint.asked)
    natural = next(text for text in prompts if "<reference>" not in text)
    similar = next(text for text in prompts if "<reference>" in text)
    assert re.search(r"<answer>\nb\n</answer>", natural)
    assert re.search(r"<reference>\na\n</reference>\n\n<answer>\nb\n</answer>", similar)
    assert "a high grade means that they differ" in similar


def test_rows_say_who_judged_by_which_prompt_and_keep_the_reply(run, endpoint):
    judged(run, endpoint, probes=["retain"])
    rows = run.read_part("judgements", "one").to_pylist()
    assert [row["criterion"] for row in rows] == ["naturalness", "similarity"]
    assert {row["reply"] for row in rows} == {"Fine.\nGrade: 4"}
    told = json.loads(rows[0]["judge"])
    assert told == {"model": "judge-1", "temperature": 0, "prompts": dict(PROMPTS)}


def test_the_same_command_asks_only_what_is_missing(run, endpoint):
    judged(run, endpoint, max_examples=1)
    first = len(endpoint.asked)
    assert first == 4  # "Mara Vell" and "b", by two criteria
    judged(run, endpoint, max_examples=1)
    assert len(endpoint.asked) == first
    told = judged(run, endpoint)
    assert len(endpoint.asked) == 8
    assert told.num_grades == 12
    assert len(grades(run, "one")) == 6
    judged(run, endpoint, probes=["retain"])
    assert len(grades(run, "one")) == 6


def test_another_judge_replaces_the_grades(run, endpoint):
    judged(run, endpoint)
    endpoint.reply = lambda prompt: "Grade: 2"
    judged(run, endpoint, probes=["retain"], model="judge-2")
    assert set(grades(run, "one").values()) == {2.0}
    assert len(grades(run, "one")) == 2


def test_a_reply_without_a_grade_is_kept_with_a_null(run, endpoint):
    refusal = json.dumps({"choices": [{"message": {"content": None, "refusal": "No."}}]}).encode()
    endpoint.reply = lambda prompt: (200, refusal) if "1970" in prompt else "hard to say"
    told = judged(run, endpoint)
    assert told.num_failed == told.num_grades == 12
    rows = run.read_part("judgements", "two").to_pylist()
    assert {row["value"] for row in rows} == {None}
    assert {row["reply"] for row in rows} == {"", "hard to say"}


def test_what_was_graded_before_the_judge_fails_is_kept(run, endpoint):
    endpoint.reply = lambda prompt: (404, b"gone") if "1970" in prompt else "Grade: 3"
    with pytest.raises(JudgeError, match="HTTP 404 to model 'judge-1': gone"):
        judged(run, endpoint)
    assert len(grades(run, "one")) == 6
    before, asked = grades(run, "two"), len(endpoint.asked)
    assert before
    endpoint.reply = lambda prompt: "Grade: 5"
    judged(run, endpoint)
    now = {body["messages"][0]["content"] for _, _, body in endpoint.asked[asked:]}
    assert now
    assert all("1970" in prompt for prompt in now)
    assert grades(run, "two") == {**grades(run, "two"), **before}
    assert len(grades(run, "two")) == 6


def test_a_judge_that_fails_is_not_asked_the_rest(run, endpoint):
    rows = run.read_part("measurements", "one").to_pylist()
    rows = [rows[0] | {"example": number, "generation": f"{number}"} for number in range(60)]
    run.write_part("measurements", "one", tables.from_rows("measurements", rows))

    def slowly_refuse(prompt):
        time.sleep(0.01)
        return 404, b""

    endpoint.reply = slowly_refuse
    with pytest.raises(JudgeError, match="nothing"):
        judged(run, endpoint)
    assert len(endpoint.asked) < 120


def test_a_busy_judge_is_asked_again(run, endpoint):
    left = [429, 503]
    endpoint.reply = lambda prompt: (left.pop(), b"busy") if left else "Grade: 1"
    assert judged(run, endpoint, probes=["retain"]).num_grades == 4
    endpoint.reply = lambda prompt: (500, b"broken")
    with pytest.raises(JudgeError, match="HTTP 500"):
        judged(run, endpoint, probes=["forget"])


def test_a_refused_key_is_said_without_the_key(run, endpoint, monkeypatch):
    endpoint.reply = lambda prompt: (401, f"Incorrect API key provided: {KEY}".encode())
    with pytest.raises(JudgeError, match=r"no key, as there is none in .* OPENAI_API_KEY"):
        judged(run, endpoint)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(JudgeError, match=r"refused .* the key in .* OPENAI_API_KEY") as caught:
        judged(run, endpoint)
    assert KEY not in str(caught.value)
    assert endpoint.asked[-1][1] == f"Bearer {KEY}"


def test_the_key_is_neither_shown_nor_stored_nor_carried_elsewhere(run, endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert KEY not in repr(Judge.at(endpoint.url, "m", "OPENAI_API_KEY"))
    judged(run, endpoint)
    files = run.fs.find(run.root)
    assert not [path for path in files if KEY.encode() in run.fs.cat_file(path)]
    endpoint.reply = lambda prompt: (400, f"bad {KEY}".encode())
    with pytest.raises(JudgeError, match="bad …"):
        judged(run, endpoint, model="other")
    endpoint.reply = lambda prompt: (302, b"")
    with pytest.raises(JudgeError, match="HTTP 302"):
        judged(run, endpoint, model="other")


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b'{"choices": []}', b""])
def test_an_answer_that_is_not_the_api_s_is_said(run, endpoint, body):
    endpoint.reply = lambda prompt: (200, body)
    with pytest.raises(JudgeError, match=r"not that of OpenAI's chat API.*--url"):
        judged(run, endpoint)
    assert not run.parts("judgements")


def test_an_endpoint_that_is_not_there_is_said(run):
    with Endpoint() as server:
        pass
    with pytest.raises(JudgeError, match=r"cannot be reached .*refused"):
        judged(run, server)


def test_all_faults_of_the_input_are_said_at_once(run, monkeypatch):
    monkeypatch.setenv("MY_KEY", "two\nlines")
    with pytest.raises(ConfigError) as caught:
        Judge.at("localhost:8000/v1", "m", "MY_KEY")
    assert len(caught.value.faults) == 2
    assert "must begin with http://" in caught.value.faults[0]
    assert "two" not in str(caught.value)
    with pytest.raises(ConfigError, match="no user or password") as caught:
        Judge.at("https://me:secret@host/v1", "m", "MY_KEY")
    assert "secret" not in str(caught.value)
    asked = Judge.at("http://localhost:1/v1/chat/completions", "m", "NO_KEY")
    assert asked.url == "http://localhost:1/v1"
    with pytest.raises(ConfigError) as caught:
        judge_run(run, asked, ["forgot"], 0, lambda ended, running: None)
    assert "Did you mean 'forget'?" in caught.value.faults[0]
    assert "--max-examples: must be >= 1, got 0" in caught.value.faults[1]


def test_grades_become_scores(run, endpoint, monkeypatch, capsys):
    endpoint.reply = lambda prompt: "?" if "1961" in prompt else "Grade: 4"
    monkeypatch.setattr("sys.argv", ["raymcu", "judge", run.url, "--url", endpoint.url,
                                     "--model", "judge-1"])  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "12 grades of 2 points, 2 replies without" in capsys.readouterr().out
    points = [point for point in run.plan["points"] if point["id"] in SAID]
    score_points(run, points, lambda ended, running: None)
    scores = {row["metric"]: row for row in run.read_part("scores", "one").to_pylist()}
    assert scores["forget_naturalness"]["value"] == 4.0
    assert scores["forget_similarity"]["num_examples"] == 1
    assert "1 of 2 replies" in scores["forget_similarity"]["note"]
    assert "judge-1" in scores["retain_naturalness"]["note"]
