// The image's health check: exit code 0 when the role in this container answers that it is ready.
//
// A container runs one role, and each role has its port and its path; the one that answers is ours. A role on another
// port, or under TLS, is named by LAKEBED_HEALTH_URL. The Helm chart does not use this: its probes ask over HTTP.

const ROLES = [
  'http://127.0.0.1:9898/v1/status', // pageserver
  'http://127.0.0.1:7676/v1/status', // safekeeper
  'http://127.0.0.1:50051/status', // storage_broker
  'http://127.0.0.1:55420/status', // manager
];
const TIMEOUT_MS = 2000;

const told = process.env['LAKEBED_HEALTH_URL'];
const urls = told ? [told] : ROLES;
const answers = urls.map(async url => {
  const { ok, status } = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!ok) throw new Error(`${url} answers ${status}`);
});

await Promise.any(answers).catch((error: AggregateError) => {
  process.stderr.write(`${error.errors.map(e => (e as Error).message).join('; ')}\n`);
  process.exitCode = 1;
});
