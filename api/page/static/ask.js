// Asks before something that cannot be undone.

const dialog = document.getElementById("ask-dialog");

/** Resolves with true when the person agrees. */
export function ask(title, text, yes) {
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-text").textContent = text;
  document.getElementById("ask-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
  });
}
