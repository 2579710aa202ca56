// The six scenarios against the stream services (Kafka, ports 8301-8310): each answer acknowledges that
// the work is durable and will complete. Run it with `k6 run k6-tests/script-stream.js`; the answers are those of script-async.js.
import { events } from './lib/events.js';

const load = events('stream');

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
