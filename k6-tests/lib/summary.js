// The end of a run: one row per scenario on the terminal, everything as JSON if SUMMARY_FILE names a file.
import { active } from './options.js';
import { config } from './config.js';

const ms = (value) => (value === undefined ? '-' : value < 10 ? value.toFixed(2) : value < 1000 ? value.toFixed(1) : value.toFixed(0));

function figures(metrics, name) {
  const value = (metric, key) => metrics[metric]?.values?.[key];
  const ack = metrics[`http_req_duration{scenario:${name},step:acknowledge}`]?.values ?? {};
  const checks = metrics[`checks{scenario:${name}}`]?.values ?? {};
  return {
    scenario: name,
    requests: ack.count ?? 0,
    acknowledge_ms: { p50: ack.med, p95: ack['p(95)'], p99: ack['p(99)'], max: ack.max },
    expected: value(`answers_expected{scenario:${name}}`, 'count') ?? 0,
    unexpected: value(`answers_unexpected{scenario:${name}}`, 'count') ?? 0,
    checks_failed: checks.fails ?? 0,
    dropped_iterations: value(`dropped_iterations{scenario:${name}}`, 'count') ?? 0,
  };
}

function crossed(metrics) {
  const failed = [];
  for (const [metric, { thresholds = {} }] of Object.entries(metrics)) {
    for (const [rule, { ok }] of Object.entries(thresholds)) if (!ok) failed.push(`${metric}: ${rule}`);
  }
  return failed;
}

function table(title, rows, failed) {
  const cells = rows.map((r) => [
    r.scenario.toUpperCase(),
    r.requests,
    r.expected,
    r.unexpected,
    r.checks_failed,
    r.dropped_iterations,
    ...['p50', 'p95', 'p99'].map((p) => (r.requests ? ms(r.acknowledge_ms[p]) : '-')),
  ]);
  const head = ['', 'requests', 'expected', 'unexpected', 'checks failed', 'dropped', 'ack p50 ms', 'p95', 'p99'];
  const all = [head, ...cells].map((row) => row.map(String));
  const width = head.map((_, i) => Math.max(...all.map((row) => row[i].length)));
  const lines = all.map((row) => row.map((cell, i) => cell.padStart(width[i])).join('  '));
  const verdict = failed.length ? ['', ...failed.map((f) => `FAILED  ${f}`)] : ['', 'every check and threshold holds'];
  return [title, '', ...lines, ...verdict, ''].join('\n');
}

export function summary(mode, data) {
  const metrics = data.metrics ?? {};
  const rows = active.map((name) => figures(metrics, name));
  // No request was sent: setup failed and has already logged the reason.
  if (rows.every((r) => r.requests === 0)) return { stdout: '' };
  const failed = crossed(metrics);
  const smokeRuns = metrics.smoke_runs?.values.count ?? 0;
  const load = smokeRuns ? 'smoke' : config.load;
  const title = smokeRuns
    ? `${mode} mode, ${smokeRuns} x each scenario once (k6's own options replace the load of the script)`
    : `${mode} mode, ${load} load, ${config.seconds} s`;
  const text = `\n${table(title, rows, failed)}`;
  if (!config.summaryFile) return { stdout: text };
  const file = JSON.stringify({ mode, load, duration: config.duration, scenarios: rows, failed, k6: data }, null, 1);
  // The comparison reads the samples from standard output: print nothing else there.
  return { [config.load === 'closed' ? 'stdout' : 'stderr']: text, [config.summaryFile]: file };
}
