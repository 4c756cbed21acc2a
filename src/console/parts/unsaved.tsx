/** Edits that are stored nowhere yet: what would lose them is done only when whoever made them says so. */
import { useEffect } from "preact/hooks";

let isUnsaved = false;
let dialog: HTMLDialogElement | null = null;
let goOn = (): void => {};

/** Says whether there are such edits now. */
export function setUnsaved(is: boolean): void {
  isUnsaved = is;
}

/** Does what takes an editor away: at once, or when its edits are given up. */
export function leave(next: () => void): void {
  if (!isUnsaved || dialog === null) {
    next();
    return;
  }
  goOn = next;
  if (!dialog.open) dialog.showModal();
}

/** Asks; also before the tab is closed or goes elsewhere, in the browser's own words. */
export function LeaveDialog() {
  useEffect(() => {
    const warn = (event: BeforeUnloadEvent): void => {
      if (!isUnsaved) return;
      event.preventDefault();
      // What browsers of before 2024 go by.
      event.returnValue = true;
    };
    addEventListener("beforeunload", warn);
    return () => removeEventListener("beforeunload", warn);
  }, []);
  const giveUp = (): void => {
    // First, since it gives the focus back to where it was.
    dialog?.close();
    isUnsaved = false;
    goOn();
  };
  return (
    <dialog
      role="alertdialog"
      aria-labelledby="unsaved"
      ref={(element) => {
        dialog = element;
      }}
    >
      <p id="unsaved">These edits would be lost. Give them up?</p>
      <div class="row">
        <button type="button" onClick={() => dialog?.close()}>
          Keep editing
        </button>
        <button type="button" class="danger" onClick={giveUp}>
          Give them up
        </button>
      </div>
    </dialog>
  );
}
