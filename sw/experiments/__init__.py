"""The AGMM paper's figures and tables, regenerated from runs on the data at hand."""
