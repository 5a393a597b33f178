import { CloudOff, Loader } from "lucide-react";
import { server } from "../server-state";

/** Says what the server lacks, as long as it lacks something. */
export function Banner() {
  const { connection, missing, shuttingDown } = server();
  const details = Object.entries(missing);
  const isOffline = connection === "offline";
  return (
    <div role="status" className="banner-place">
      {isOffline && (
        <p className="banner offline">
          <CloudOff size={16} aria-hidden /> The server does not answer. What is shown stays; trying again.
        </p>
      )}
      {!isOffline && shuttingDown && (
        <p className="banner">The server is shutting down; what runs is finished.</p>
      )}
      {!isOffline && !shuttingDown && details.length > 0 && (
        <p className="banner">
          <Loader size={16} className="banner-turning" aria-hidden />
          <span>
            Starting:{" "}
            {details.map(([name, detail]) => (
              <span key={name} className="banner-detail">
                <strong>{name}</strong> {detail}
              </span>
            ))}
          </span>
        </p>
      )}
    </div>
  );
}
