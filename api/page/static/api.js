// Calls the API with the key of this tab and turns its error envelope into exceptions.

const STORED = "slackline-key";
const dialog = document.getElementById("key-dialog");
const field = document.getElementById("key");
const localKey = document.querySelector('meta[name="local-key"]').content;

const RETRIED = "The page tries again by itself.";
const ONCE = "It may have taken this all the same, so look before you send it again.";

/** What the API refused, in its own words. `status` 0: it did not answer at all. */
export class ApiError extends Error {
  constructor(status, message, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Reads or writes one document. Asks for the key when there is none or it is refused. */
export async function call(path, { method = "GET", body = null, type = "application/json", signal = null } = {}) {
  const response = await request(path, { method, body, type, signal });
  return answered(response.json(), method);
}

/** The same, as a response whose body may be streamed. */
export async function request(path, { method = "GET", body = null, type = "application/json", accept = null, signal = null } = {}) {
  for (;;) {
    const key = await currentKey();
    const headers = { Authorization: `Bearer ${key}` };
    if (body !== null) headers["Content-Type"] = type;
    if (accept !== null) headers.Accept = accept;
    const response = await answered(fetch(path, { method, body, headers, signal }), method);
    if (response.ok) return response;
    const error = await envelope(response);
    if (error.status !== 401) throw error;
    if (key === sessionStorage.getItem(STORED)) sessionStorage.removeItem(STORED);
    await askKey(error.message);
  }
}

/** Resolves with what the API sends. It may go away before its first byte or after. */
async function answered(promise, method) {
  try {
    return await promise;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new ApiError(0, `The API does not answer. ${method === "GET" ? RETRIED : ONCE}`);
  }
}

async function envelope(response) {
  try {
    const { error } = await response.json();
    return new ApiError(response.status, error.message, error.code);
  } catch {
    return new ApiError(response.status, `The API answered ${response.status}.`);
  }
}

async function currentKey() {
  return sessionStorage.getItem(STORED) || localKey || askKey("");
}

let asking = null;

/** Shows the dialog once, however many requests wait for it; resolves with the key. */
export function askKey(reason) {
  asking ??= new Promise((resolve) => {
    document.getElementById("key-error").textContent = reason;
    field.value = sessionStorage.getItem(STORED) || localKey;
    dialog.oncancel = (event) => {
      if (!sessionStorage.getItem(STORED) && !localKey) event.preventDefault();
    };
    dialog.onclose = () => {
      if (dialog.returnValue === "save" && field.value.trim()) {
        sessionStorage.setItem(STORED, field.value.trim());
      }
      dialog.returnValue = "";
      asking = null;
      resolve(sessionStorage.getItem(STORED) || localKey);
    };
    dialog.showModal();
    field.select();
  });
  return asking;
}

/** A path with the parameters that have a value. */
export function withQuery(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.append(name, value);
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}
