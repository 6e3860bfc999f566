"""Reports: from run directories alone to tables, figures and one HTML page."""
