// The one line in which the page says that something went wrong.

const line = document.getElementById("notice");

/** Shows a message until the next success or view. */
export function notify(message) {
  if (line.textContent !== message) line.textContent = message;
  line.hidden = false;
}

export function forget() {
  line.hidden = true;
  line.textContent = "";
}
