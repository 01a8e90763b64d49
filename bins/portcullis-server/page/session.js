// Who is signed in, in this tab. The token lives in memory and in the tab's own storage, which a reload survives and closing the tab does not.
// It is never in an address, a cookie, or anything that another tab sees.

const KEY = "portcullis.token";
const listeners = new Set();

let token = stored();

function stored() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // storage may be forbidden: then memory alone
  }
}

function store(value) {
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // As above.
  }
}

function become(value, why) {
  token = value;
  store(value);
  for (const listener of [...listeners]) listener(why);
}

export const current = () => token;

// Calls `listener` with a reason at each change, until the function that is returned is called.
export function changed(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const begin = (value) => become(value, "begun");

export const leave = () => become(null, "left");

// Ends the session whose token was refused; an answer that comes late does not end a newer one.
export function refused(used) {
  if (used === token && token !== null) become(null, "refused");
}

// Resolves when somebody is signed in.
export function open(signal) {
  if (token !== null) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const stop = changed(() => {
      if (token === null) return;
      stop();
      resolve();
    });
    signal?.addEventListener("abort", () => {
      stop();
      reject(signal.reason);
    }, { once: true });
  });
}
