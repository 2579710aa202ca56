// The six requests that start a workflow, the same bytes in both modes. Each takes the addresses of the
// services, a unique id and the k6 parameters, and gives back the answer.
import http from 'k6/http';

const products = [1, 2, 3]; // seeded
const some = (list) => list[Math.floor(Math.random() * list.length)];

function json(method, url, body, params) {
  return http.request(method, url, JSON.stringify(body), params);
}

export const requests = {
  s1: (at, id, params) => json('POST', `${at.user}/register`, { email: `${id}@load.example.com` }, params),
  s2: (at, id, params) => json('POST', `${at.payment}/process_payment`, { amount: 99.95, currency: 'USD' }, params),
  s3: (at, id, params) =>
    json('PUT', `${at.product}/products/${some(products)}`, { stock: 1 + Math.floor(Math.random() * 500) }, params),
  s4: (at, id, params) => json('POST', `${at.report}/generate_report`, { report_type: 'sales' }, params),
  s5: (at, id, params) => json('POST', `${at.order}/create_order`, { product_id: some(products), quantity: 1 }, params),
  s6: (at, id, params) =>
    json('POST', `${at.analytics}/track_click`, { user_id: 1 + Math.floor(Math.random() * 1000), page: '/products/1', session_id: id }, params),
};

// A report takes 10 s in sync mode; 20 s is the client's limit that belongs to it.
export const timeouts = { s1: '30s', s2: '30s', s3: '30s', s4: '20s', s5: '30s', s6: '30s' };

// The route, so that k6 groups by it and not by address.
export const routes = {
  s1: 'POST /register',
  s2: 'POST /process_payment',
  s3: 'PUT /products/{id}',
  s4: 'POST /generate_report',
  s5: 'POST /create_order',
  s6: 'POST /track_click',
};

// A field of a JSON answer, or undefined where there is none (a problem, an empty body, a timeout).
export function field(answer, path) {
  try {
    return answer.json(path);
  } catch {
    return undefined;
  }
}
