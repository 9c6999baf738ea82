import json
import pathlib

finding = {"feature": feature, "responds_to": best, "separation": round(separation, 1)}
pathlib.Path("outputs/finding.json").write_text(json.dumps(finding))
pathlib.Path("outputs/report.md").write_text(
    f"# Feature {feature}\n\nIt responds to {best}: {separation:.1f} standard errors over "
    f"{len(SENTENCES)} pairs; by chance the largest of {len(found)} properties and "
    f"{len(found[best])} features is below {np.quantile(largest, 0.95):.1f} in 95 of 100 cases. "
    f"It holds on {len(NEW)} new sentences.\n"
)
print("written")
