// What the modes with a broker answer: each answer acknowledges that the work is durable and will complete.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { field } from './requests.js';
import { study } from './study.js';

const SAGA_SECONDS = 4; // by then every saga has ended

function orderHasFailed(at, answer) {
  sleep(SAGA_SECONDS);
  // A step of its own: this request is not part of the acknowledgement.
  const order = http.get(`${at.order}/orders/${field(answer, 'id')}`, { tags: { step: 'outcome', name: 'GET /orders/{id}' } });
  check(order, { [`S5 has failed after ${SAGA_SECONDS} s`]: (o) => o.status === 200 && field(o, 'status') === 'failed' });
}

const statusIs = (status) => ({ [`is ${status}`]: (answer) => field(answer, 'status') === status });

export const events = (mode) => study({
  mode,
  answers: {
    s1: { status: 202 },
    s2: { status: 202, checks: statusIs('processing') },
    s3: { status: 200 },
    s4: { status: 202, checks: statusIs('queued') },
    s5: { status: 202, checks: statusIs('pending'), afterwards: orderHasFailed },
    s6: { status: 200, checks: statusIs('tracked') },
  },
  // Slowest acceptable p95 of the acknowledgement, in ms.
  thresholds: { s1: 100, s2: 100, s3: 100, s4: 100, s5: 150, s6: 50 },
});
