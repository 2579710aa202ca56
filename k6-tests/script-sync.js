// The six scenarios against the sync services (HTTP calls, ports 8001-8010): each answer arrives when all
// work is complete. Run it with `k6 run k6-tests/script-sync.js`; its twin is script-async.js.
import { study } from './lib/study.js';
import { config } from './lib/config.js';
import { field } from './lib/requests.js';

const longerThan = (limit) => (answer) => answer.timings.duration > limit;

const load = study({
  mode: 'sync',
  answers: {
    s1: { status: 201, checks: { [`takes > ${config.emailMs} ms`]: longerThan(config.emailMs) } },
    s2: {
      status: 200,
      checks: {
        [`takes > ${config.paymentMs} ms`]: longerThan(config.paymentMs),
        'has a transaction_id': (answer) => Boolean(field(answer, 'transaction_id')),
      },
    },
    s3: { status: 200 },
    s4: {
      status: 200,
      checks: {
        [`takes > ${config.reportMs} ms`]: longerThan(config.reportMs),
        'has a report_hash': (answer) => Boolean(field(answer, 'report_hash')),
      },
    },
    s5: {
      status: 400, // the payment fails: this is the answer that the saga owes
      checks: { 'executed the compensation': (answer) => field(answer, 'detail.compensation_executed') === true },
    },
    s6: { status: 200, checks: { 'is tracked': (answer) => field(answer, 'status') === 'tracked' } },
  },
});

export const options = load.options;
export const setup = load.setup;
export const s1 = load.scenario('s1');
export const s2 = load.scenario('s2');
export const s3 = load.scenario('s3');
export const s4 = load.scenario('s4');
export const s5 = load.scenario('s5');
export const s6 = load.scenario('s6');
export default load.smoke;
export const handleSummary = load.summary;
