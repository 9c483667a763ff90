// The page's parts in reading order; a page that follows a run asks for news and loads itself anew.

const page = document.getElementById("page");
page.append(...[header(), tiles(), strip(), furthestApart(), curves(), histograms(), samples(), numbers()].filter(Boolean));

const NEWS = 2000;

async function follow(known) {
  const chip = document.getElementById("live");
  try {
    const answer = await fetch("version", { cache: "no-store" });
    const version = await answer.text();
    if (known !== null && version !== known) {
      location.reload();
      return;
    }
    chip.textContent = "following";
    setTimeout(follow, NEWS, version);
  } catch {
    chip.textContent = "the server is gone";
    setTimeout(follow, 2 * NEWS, known);
  }
}

if (DATA.live) follow(null);
