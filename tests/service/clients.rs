//! The Python clients of launch/clients against a running service.

use std::process::Command;

use serde_json::{Value, json};

use super::process::{Server, circle};
use crate::cli::program::{scratch, told, write};

/// Runs `script` with the clients on its path and `case` as `case`; it prints one JSON value.
fn python(server: &Server, token: &str, script: &str) -> Value {
    let case = json!({"url": server.url(), "red": circle("red"), "blue": circle("blue")});
    let text = format!("import json, sys\ncase = json.loads(sys.argv[1])\n{script}");
    let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/launch/clients");
    let mut command = Command::new("python3");
    command
        .args(["-c", &text, &case.to_string()])
        .env("PYTHONPATH", clients)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SVGRL_REWARD_URL", server.url())
        .env("SVGRL_REWARD_TOKEN", token);
    let out = told(&mut command).fine().out;
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn server(name: &str) -> Server {
    let file = write(&scratch(&format!("{name}_token")), "token", "s3cret");
    Server::start(
        name,
        "deadline_ms: 2000",
        &["--token-file", file.to_str().unwrap()],
    )
}

/// What the service itself says of red and blue beside red, by task `draw`.
fn expected(server: &Server) -> (f64, f64) {
    let row = |colour| json!({"completion": circle(colour), "reference": {"svg": circle("red")}});
    let body = json!({"items": [row("red"), row("blue")]}).to_string();
    let out = server
        .ask(
            "POST",
            "/score_batch",
            &["Authorization: Bearer s3cret"],
            body.as_bytes(),
        )
        .fine();
    let total = |i: usize| out["items"][i]["total"].as_f64().unwrap();
    (total(0), total(1))
}

#[test]
fn slime_gets_a_number_for_a_sample_and_a_list_for_a_batch() {
    let server = server("clients_slime");
    let (red, blue) = expected(&server);
    let got = python(&server, "s3cret", "\
import asyncio
from types import SimpleNamespace as N
import slime_remote_rm
label = {'svg': case['red'], 'task': 'draw'}
def sample(colour, status='completed', label=label):
    return N(prompt='a dot', response=case[colour], label=label, status=N(value=status))
args = N(rm_url=case['url'] + '/score')
one = asyncio.run(slime_remote_rm.reward(args, sample('red', label=json.dumps(label))))
many = asyncio.run(slime_remote_rm.reward(N(rm_url=None), [sample('red'), sample('blue')]))
cut = asyncio.run(slime_remote_rm.reward(args, sample('red', 'truncated', {'svg': case['red'], 'task': 'look'})))
row = asyncio.run(slime_remote_rm.reward(N(rm_url=None, reward_key='reward'), sample('blue')))
print(json.dumps([one, many, cut, row['reward']]))");
    assert_eq!(got, json!([red, [red, blue], -0.5, blue]));
}

#[test]
fn verl_gets_a_score_with_its_parts() {
    let server = server("clients_verl");
    let (red, blue) = expected(&server);
    let got = python(&server, "s3cret", "\
import importlib.util, os
path = os.path.join(os.environ['PYTHONPATH'], 'verl_reward.py')
spec = importlib.util.spec_from_file_location('custom', path)
verl = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verl)
truth = {'svg': case['red'], 'task': 'draw'}
class Array(list):  # as numpy's, which is no list
    tolist = lambda self: list(self)
    __class__ = object
assert verl._row('', truth, {'prompt': Array([{'role': 'user', 'content': 'x'}])})['prompt'] == 'x'
one = verl.compute_score('d', case['blue'], json.dumps(truth), extra_info={'prompt': [{'role': 'user', 'content': 'x'}]}, url=case['url'])
many = verl.compute_score_batch(['d'] * 2, [case['red'], 'no'], [truth] * 2, [None, {}])
other = verl.compute_score('d', case['red'], {**truth, 'task': 'look'})
assert list(one) == list(many[1]) == list(other), 'verl reads the keys off the first row'
assert other['part_mse'] != other['part_mse'] and other['part_ssim'] == 1.0
print(json.dumps([{k: v for k, v in row.items() if v == v} for row in [one, *many]]))");
    assert_eq!(got[0]["score"].as_f64(), Some(blue));
    assert!(got[0]["part_mse"].as_f64().unwrap() < 1.0);
    assert_eq!(
        (got[1]["score"].as_f64(), got[1]["valid"].as_f64()),
        (Some(red), Some(1.0))
    );
    assert_eq!(
        (got[2]["score"].as_f64(), got[2]["valid"].as_f64()),
        (Some(-1.0), Some(0.0))
    );
}

#[test]
fn easyr1_gets_overall_and_parts() {
    let server = server("clients_easyr1");
    let (red, blue) = expected(&server);
    let got = python(
        &server,
        "s3cret",
        "\
import easyr1_reward
truth = json.dumps({'svg': case['red'], 'task': 'draw'})
rows = [{'response': case[c], 'response_length': 9, 'ground_truth': truth} for c in ('red', 'blue')]
print(json.dumps(easyr1_reward.compute_score(rows, url=case['url'])))",
    );
    assert_eq!(
        (got[0]["overall"].as_f64(), got[1]["overall"].as_f64()),
        (Some(red), Some(blue))
    );
    assert_eq!(got[0]["part_mse"], 1.0);
}

#[test]
fn trl_gets_a_list_of_numbers() {
    let server = server("clients_trl");
    let (red, blue) = expected(&server);
    let got = python(&server, "s3cret", "\
from types import SimpleNamespace as N
from trl_reward import make_reward, svgrl_reward
chat = [[{'role': 'assistant', 'content': case[c]}] for c in ('red', 'blue')]
ask = [{'role': 'user', 'content': 'a dot'}]
one = svgrl_reward(prompts=[ask, ask], completions=chat, completion_ids=[[1], [2]], svg=[case['red']] * 2)
two = make_reward(url=case['url'])(prompts=['a', 'b'], completions=[case['red'], 'no'], svg=[case['red']] * 2, task=['look', 'draw'])
late = svgrl_reward(prompts=[ask], completions=chat[:1], label=[{'svg': case['red']}], trainer_state=N(global_step=9))
print(json.dumps([one, two, late]))");
    assert_eq!(got[0], json!([red, blue]));
    assert_eq!(got[1], json!([1.0, -1.0]));
    assert!(
        (got[2][0].as_f64().unwrap() - red - 2.0).abs() < 1e-12,
        "the weight rises from 1 to 3"
    );
}

#[test]
fn pictures_of_any_kind_that_trainers_hold_reach_the_service() {
    let server = server("clients_pictures");
    let got = python(&server, "s3cret", "\
import base64, struct, zlib
from trl_reward import svgrl_reward
chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
rows = b''.join(b'\\0' + b'\\xff\\xff\\xff' * 64 for _ in range(64))
png = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 64, 64, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
class Picture:  # as Pillow's
    def save(self, file, format):
        assert format == 'PNG'
        file.write(png)
kinds = [base64.b64encode(png).decode(), png, {'bytes': png, 'path': None}, Picture()]
print(json.dumps(svgrl_reward(prompts=['x'] * 4, completions=[case['red']] * 4, image=kinds, task=['look'] * 4)))");
    let totals: Vec<f64> = serde_json::from_value(got).unwrap();
    assert!(
        totals[0] < 1.0 && totals.iter().all(|total| *total == totals[0]),
        "{totals:?}"
    );
    let photo = crate::support::fixture("parity/photos").join("progressive.jpg");
    let script = format!(
        "photo = {:?}\n{}",
        photo.to_str().unwrap(),
        "\
import base64
from trl_reward import svgrl_reward
data = open(photo, 'rb').read()
kinds = ['data:image/jpeg;base64,' + base64.b64encode(data).decode(), data, {'bytes': data, 'path': 'x'}, {'bytes': None, 'path': photo}]
print(json.dumps(svgrl_reward(prompts=['x'] * 4, completions=[case['red']] * 4, image=kinds, task=['look'] * 4)))"
    );
    let totals: Vec<f64> = serde_json::from_value(python(&server, "s3cret", &script)).unwrap();
    assert!(totals.iter().all(|total| *total == totals[0]), "{totals:?}");
}

#[test]
fn a_label_that_is_none_is_said_to_be_one() {
    let server = server("clients_labels");
    let got = python(
        &server,
        "s3cret",
        "\
from svgrl_client import ServiceError, split
said = []
for label in ['{\"svg\": ', '{a} dot', [1], 5]:
    try:
        split(label)
    except ServiceError as error:
        said.append(str(error))
print(json.dumps(said))",
    );
    let said: Vec<String> = serde_json::from_value(got).unwrap();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said.iter().all(|s| s.starts_with("label: ")), "{said:?}");
}

#[test]
fn a_service_that_takes_few_rows_is_asked_for_few() {
    let server = Server::start("clients_few", "service: {max_items: 2}", &[]);
    let (red, blue) = expected(&server);
    let got = python(&server, "", "\
import easyr1_reward
truth = {'svg': case['red']}
rows = [{'response': case[c], 'ground_truth': truth} for c in ('red', 'blue', 'red', 'blue', 'blue')]
print(json.dumps([each['overall'] for each in easyr1_reward.compute_score(rows)]))");
    assert_eq!(got, json!([red, blue, red, blue, blue]));
}

#[test]
fn a_refusal_is_an_error_at_once_and_an_outage_is_waited_for() {
    let server = server("clients_errors");
    let got = python(&server, "wrong", "\
import threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from svgrl_client import Client, ServiceError, row
said = []
for client, rows in [(Client(), [row('x', case['red'])]), (Client(token='s3cret'), [row('x', {'svg': 5})])]:
    try:
        client.score(rows)
    except ServiceError as error:
        said.append(str(error))
answers = [(503, b'{}', {}), (429, b'{}', {'Retry-After': '1'}), (200, b'{\"items\": [{\"reason\": \"service_deadline: x\"}]}', {}), (200, b'{\"items\": [{\"reason\": null, \"reward\": 7}]}', {})]
class Busy(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers['Content-Length']))
        status, body, headers = answers.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
busy = HTTPServer(('127.0.0.1', 0), Busy)
threading.Thread(target=busy.serve_forever, daemon=True).start()
patient = Client(url='http://127.0.0.1:%d' % busy.server_port)
print(json.dumps([said, patient.score([row('x', 'y')])[0]['reward']]))");
    assert!(got[0][0].as_str().unwrap().contains("status 401"), "{got}");
    assert!(
        got[0][1]
            .as_str()
            .unwrap()
            .contains("items.0.reference.svg"),
        "{got}"
    );
    assert_eq!(got[1], 7);
}
