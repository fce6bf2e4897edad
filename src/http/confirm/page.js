// Reads challenge and secret from the fragment, which browsers keep to themselves, and hands them in when the button is pressed.
"use strict";

const link = /^#([0-9a-f]{32})\.([0-9a-f]{32})$/.exec(location.hash);
const button = document.getElementById("confirm");
const outcome = document.getElementById("outcome");

async function confirm(id, secret) {
  button.disabled = true;
  try {
    const answer = await fetch(`v1/challenges/${id}/confirm`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ secret }),
    });
    outcome.textContent = answer.ok
      ? "Done. Your app goes on by itself; you can close this page."
      : "This link is over. Ask for another one in your app.";
  } catch {
    outcome.textContent = "There was no answer. Try again.";
    button.disabled = false;
  }
}

if (link) {
  const [, id, secret] = link;
  // The secret is not to stay in the history.
  history.replaceState(null, "", location.pathname);
  document.getElementById("reference").textContent = id.slice(0, 6);
  button.addEventListener("click", () => confirm(id, secret));
  button.disabled = false;
} else {
  outcome.textContent = "This link is not whole. Copy all of it from the mail, or enter the code in your app.";
}
