// The six requests that start a workflow, the same bytes in all modes. Each takes the addresses of the
// services, a unique id and the k6 parameters, and returns the answer.
import http from 'k6/http';
import { config } from './config.js';

const products = [1, 2, 3]; // there from the start
// Several words: PostgreSQL does not index a word of several kilobytes.
const name = config.payload ? { name: 'word '.repeat(config.payload / 5 + 1).slice(0, config.payload) } : {};

// A number below `limit`, derived from seed and id, so that all modes get the same requests.
function drawn(id, limit) {
  let hash = 2166136261 ^ config.seed;
  // The beginning of an id names the run; only the end identifies the request.
  const end = id.slice(id.lastIndexOf('-s'));
  for (let i = 0; i < end.length; i++) hash = Math.imul(hash ^ end.charCodeAt(i), 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 2246822507);
  return ((hash ^ (hash >>> 13)) >>> 0) % limit;
}

function json(method, url, body, params) {
  return http.request(method, url, JSON.stringify(body), params);
}

export const requests = {
  s1: (at, id, params) => json('POST', `${at.user}/register`, { email: `${id}@load.example.com` }, params),
  s2: (at, id, params) => json('POST', `${at.payment}/process_payment`, { amount: 99.95, currency: 'USD' }, params),
  s3: (at, id, params) =>
    json('PUT', `${at.product}/products/${products[drawn(id, 3)]}`, { ...name, stock: 1 + drawn(id, 500) }, params),
  s4: (at, id, params) => json('POST', `${at.report}/generate_report`, { report_type: 'sales' }, params),
  s5: (at, id, params) => json('POST', `${at.order}/create_order`, { product_id: products[drawn(id, 3)], quantity: 1 }, params),
  s6: (at, id, params) =>
    json('POST', `${at.analytics}/track_click`, { user_id: 1 + drawn(id, 1000), page: '/products/1', session_id: id }, params),
};

// A report takes 10 s in sync mode; the contract sets the client's timeout to 20 s.
export const timeouts = { s4: '20s' };

// A field of a JSON answer, or undefined where there is none (a problem, an empty body, a timeout).
export function field(answer, path) {
  try {
    return answer.json(path);
  } catch {
    return undefined;
  }
}
