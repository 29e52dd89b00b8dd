// The state of a view in the address, so that it can be linked, reloaded and gone back to.

/** Parameters of the address as an object of strings. */
export const parameters = () => Object.fromEntries(new URLSearchParams(location.search));

/** Changes parameters of the address; null removes one. With `remember` the back button undoes it. */
export function setParameters(changes, { remember = false } = {}) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  const path = location.pathname + (text ? `?${text}` : "");
  if (path === location.pathname + location.search) return;
  if (remember) history.pushState(null, "", path);
  else history.replaceState(null, "", path);
}
